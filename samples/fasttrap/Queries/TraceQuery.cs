using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Linq.Expressions;
using FastTrap.Tool.Verbs;

namespace FastTrap.Tool.Queries;

/// <summary>What <c>trace</c> records of a hit by a query: the instruction, the return value where it may be one, and arguments.</summary>
internal static class TraceQuery
{
    /// <summary>Arguments in registers; the others lie on the stack.</summary>
    private const int RegisterArguments = 6;

    private const string Entry = "entry";
    private const string Return = "return";

    private static readonly Expression<Func<QueryContext, ulong[]>> s_all = All();

    /// <summary>
    /// Whether a description can mean probes of functions only. Arguments of static probes have kinds of their own, and texts, which are taken by a handler.
    /// </summary>
    public static bool Suits(ProbeDescription description) =>
        description.Provider.StartsWith("pid", StringComparison.Ordinal) || description.Name is Entry or Return
        || (description.Name.Length != 0 && ulong.TryParse(description.Name, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out _));

    public static ProbeQuery<ProbeRecords<ulong[]>> On(ProbeDescription description, ProbeMechanism mechanism, int argumentCount)
    {
        // Of all that can be recorded, as many arguments as are shown.
        NewArrayExpression all = (NewArrayExpression)s_all.Body;
        IEnumerable<Expression> values =
        [
            all.Expressions[0],
            .. description.Name == Entry ? [] : all.Expressions.Skip(1).Take(1),
            .. description.Name == Return ? [] : all.Expressions.Skip(2).Take(argumentCount),
        ];
        return ProbeQuery.On(description).WithMechanism(mechanism).Record(Expression.Lambda<Func<QueryContext, ulong[]>>(all.Update(values), s_all.Parameters));
    }

    public static TraceRecord Read(QueryResult<ProbeRecords<ulong[]>> query, in ProbeRecord<ulong[]> record)
    {
        ReadOnlySpan<ulong> values = record.Value;
        bool hasReturn = query.Description.Name != Entry;
        ReadOnlySpan<ulong> arguments = record.Probe.Kind == ProbeKind.Entry ? values[(hasReturn ? 2 : 1)..] : [];
        return new TraceRecord
        {
            Probe = record.Probe,
            ProcessId = query.Process.ProcessId,
            ThreadId = record.ThreadId,
            TimeNs = record.TimestampNs,
            ProgramCounter = values[0],
            ReturnValue = hasReturn ? values[1] : 0,

            // Where the stack could not be read, those in registers are there.
            Arguments = (record.IsComplete || arguments.Length <= RegisterArguments ? arguments : arguments[..RegisterArguments]).ToArray(),
        };
    }

    [UnconditionalSuppressMessage("AOT", "IL3050", Justification = "The program has arrays of this type itself.")]
    private static Expression<Func<QueryContext, ulong[]>> All() => c => new[]
    {
        c.ProgramCounter, c.ReturnValue,
        c.Arg(0), c.Arg(1), c.Arg(2), c.Arg(3), c.Arg(4), c.Arg(5), c.Arg(6), c.Arg(7), c.Arg(8), c.Arg(9), c.Arg(10), c.Arg(11),
    };
}
