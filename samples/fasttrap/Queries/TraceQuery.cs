using System.Globalization;
using System.Linq.Expressions;
using FastTrap.Tool.Verbs;

namespace FastTrap.Tool.Queries;

/// <summary>What <c>trace</c> records of a hit by a query: the instruction, the return value where it may be one, and arguments; of static probes which of these could be had, and texts.</summary>
internal static class TraceQuery
{
    /// <summary>Arguments in registers; the others lie on the stack.</summary>
    private const int RegisterArguments = 6;

    /// <summary>Words of all records that are kept for a reader.</summary>
    private const int KeptWords = 1 << 22;

    private const int MostKept = 1 << 16;

    /// <summary>Words of a record, texts left out, at most.</summary>
    private const int RecordWords = 64;

    /// <summary>Of what a record is constructed of.</summary>
    private const int FirstArgument = 2;

    private const string Entry = "entry";
    private const string Return = "return";

    // An argument that cannot be had has no value, and so has the comparison with itself: that is false in the record, else true. No arrays: in code that is compiled ahead of time expressions have none.
    private static readonly Expression<Func<QueryContext, TraceValues>> s_all = c => new TraceValues(
        c.ProgramCounter,
        c.ReturnValue,
        new TraceArgument(c.Arg(0), c.Arg(0) == c.Arg(0), c.ReadString(c.Arg(0), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(1), c.Arg(1) == c.Arg(1), c.ReadString(c.Arg(1), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(2), c.Arg(2) == c.Arg(2), c.ReadString(c.Arg(2), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(3), c.Arg(3) == c.Arg(3), c.ReadString(c.Arg(3), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(4), c.Arg(4) == c.Arg(4), c.ReadString(c.Arg(4), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(5), c.Arg(5) == c.Arg(5), c.ReadString(c.Arg(5), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(6), c.Arg(6) == c.Arg(6), c.ReadString(c.Arg(6), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(7), c.Arg(7) == c.Arg(7), c.ReadString(c.Arg(7), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(8), c.Arg(8) == c.Arg(8), c.ReadString(c.Arg(8), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(9), c.Arg(9) == c.Arg(9), c.ReadString(c.Arg(9), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(10), c.Arg(10) == c.Arg(10), c.ReadString(c.Arg(10), ArgumentText.MaximumText)),
        new TraceArgument(c.Arg(11), c.Arg(11) == c.Arg(11), c.ReadString(c.Arg(11), ArgumentText.MaximumText)));

    /// <summary>Whether a description can mean probes of functions only.</summary>
    public static bool IsOfFunctions(ProbeDescription description) =>
        description.Provider.StartsWith("pid", StringComparison.Ordinal) || description.Name is Entry or Return
        || (description.Name.Length != 0 && ulong.TryParse(description.Name, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out _));

    /// <summary>A query.</summary>
    /// <param name="part">What is to be recorded of which probes.</param>
    /// <param name="mechanism">How.</param>
    /// <param name="argumentCount">Arguments that are shown.</param>
    public static ProbeQuery<ProbeRecords<TraceValues>> On(TracePart part, ProbeMechanism mechanism, int argumentCount)
    {
        // Of all that can be recorded, as many arguments as are shown, and of these what is needed.
        NewExpression all = (NewExpression)s_all.Body;
        string name = part.Description.Name;
        int declared = Math.Min(argumentCount, part.ArgumentCount);
        int recorded = name == Return ? 0 : part.MayBeFunctions ? argumentCount : declared;
        IEnumerable<Expression> arguments = all.Arguments.Skip(FirstArgument).Cast<NewExpression>().Select<NewExpression, Expression>((argument, index) => index >= recorded
            ? Expression.Constant(null, typeof(TraceArgument))
            : argument.Update(
            [
                argument.Arguments[0],
                index < declared ? argument.Arguments[1] : Expression.Constant(true),
                part.Pointers.Contains(index) ? argument.Arguments[2] : Expression.Constant(null, typeof(string)),
            ]));
        NewExpression body = all.Update([all.Arguments[0], name == Entry ? Expression.Constant(0UL) : all.Arguments[1], .. arguments]);
        int words = RecordWords + (part.Pointers.Count(index => index < recorded) * ((ArgumentText.MaximumText / sizeof(ulong)) + 1));
        return ProbeQuery.On(part.Description).WithMechanism(mechanism).Record(Expression.Lambda<Func<QueryContext, TraceValues>>(body, s_all.Parameters), Math.Min(MostKept, KeptWords / words));
    }

    /// <summary>A record as it is printed.</summary>
    public static TraceRecord Read(QueryResult<ProbeRecords<TraceValues>> query, TracePart part, in ProbeRecord<TraceValues> record)
    {
        Probe probe = record.Probe;
        TraceRecord read = new()
        {
            Probe = probe,
            ProcessId = query.Process.ProcessId,
            ThreadId = record.ThreadId,
            TimeNs = record.TimestampNs,
            ProgramCounter = record.Value.ProgramCounter,
            ReturnValue = record.Value.ReturnValue,
        };
        IReadOnlyList<TraceArgument> arguments = record.Value.Arguments;
        if (IsDescribed(probe))
        {
            Describe(read, arguments);
        }
        else if (probe.Kind == ProbeKind.Entry)
        {
            // Where the stack could not be read, those in registers are there.
            int known = record.IsComplete || part.ArgumentCount != 0 ? arguments.Count : RegisterArguments;
            read.Arguments = [.. arguments.Take(known).TakeWhile(static argument => argument.IsKnown).Select(static argument => argument.Value)];
        }

        return read;
    }

    private static bool IsDescribed(Probe probe) => probe.Kind is not ProbeKind.Return and not ProbeKind.Entry && (probe.Kind == ProbeKind.Static || probe.Arguments.Count != 0);

    /// <summary>All arguments that a static probe declares, as far as they are wanted.</summary>
    private static void Describe(TraceRecord read, IReadOnlyList<TraceArgument> arguments)
    {
        Probe probe = read.Probe;
        int count = Math.Min(arguments.Count, probe.Arguments.Count);
        read.Arguments = new ulong[count];
        read.Kinds = new ArgumentKind[count];
        read.Texts = new string?[count];
        for (int i = 0; i < count; i++)
        {
            TraceArgument argument = arguments[i];
            read.Arguments[i] = argument.Value;
            read.Kinds[i] = argument.IsKnown ? probe.GetArgumentKind(read.ProgramCounter, i) : ArgumentKind.Unreadable;
            read.Texts[i] = argument.IsKnown && ArgumentText.MayPoint(probe.Arguments[i]) && ArgumentText.IsText(argument.Text) ? argument.Text : null;
        }
    }
}
