using System.Diagnostics.CodeAnalysis;
using System.Linq.Expressions;
using System.Reflection;

namespace FastTrap.Programs;

/// <summary>
/// Splits what a record is made of in two: the values, which the program gives out, and the making of the consumer's object of them, which is done when it is read.
/// </summary>
internal sealed class RecordSelector : ExpressionVisitor
{
    private const int MaximumText = 4096;
    private const int MaximumFrames = 512;

    private static readonly MethodInfo s_getText = Getter(nameof(RecordReader.GetText));
    private static readonly MethodInfo s_getStack = Getter(nameof(RecordReader.GetStack));

    private readonly ExpressionCompiler _compiler;
    private readonly ParameterExpression _site;
    private readonly ParameterExpression _reader = Expression.Parameter(typeof(RecordReader), "record");
    private readonly List<(int AddressOutput, int MaximumLength)> _texts = [];

    private RecordSelector(ExpressionCompiler compiler, ParameterExpression site)
    {
        _compiler = compiler;
        _site = site;
    }

    /// <summary>Adds the outputs to the program; gives the texts and what makes an object of a record.</summary>
    public static (IReadOnlyList<(int AddressOutput, int MaximumLength)> Texts, Func<RecordReader, T> Make) Compile<T>(
        ExpressionCompiler compiler, Expression<Func<QueryContext, T>> selector)
    {
        RecordSelector split = new(compiler, selector.Parameters[0]);
        Expression body = split.Visit(selector.Body)!;
        return (split._texts, Expression.Lambda<Func<RecordReader, T>>(body, split._reader).Compile());
    }

    [DynamicDependency(DynamicallyAccessedMemberTypes.PublicMethods, typeof(RecordReader))]
    private static MethodInfo Getter(string name) => typeof(RecordReader).GetMethod(name)!;

    public override Expression? Visit(Expression? node)
    {
        if (node is null || !_compiler.UsesSite(node))
        {
            // What does not depend on the hit is what it is now.
            return node is null or ConstantExpression ? node : Expression.Constant(ExpressionCompiler.Evaluate(node), node.Type);
        }

        switch (node)
        {
            case NewExpression or MemberInitExpression or NewArrayExpression:
                return base.Visit(node);
            case MethodCallExpression { Object: { } target, Method.Name: nameof(QueryContext.ReadString) } call when target == _site:
                int length = _compiler.CompileConstantIndex(call.Arguments[1], "the length of a string", 1, MaximumText);
                _texts.Add((_compiler.Builder.Output(_compiler.Compile(call.Arguments[0])), length));
                return Expression.Call(_reader, s_getText, Expression.Constant(_texts.Count - 1));
            case MethodCallExpression { Object: { } target, Method.Name: nameof(QueryContext.Stack) } call when target == _site:
                _texts.Add((RecordLayout.IsStack, sizeof(ulong) * _compiler.CompileConstantIndex(call.Arguments[0], "the depth of a stack", 1, MaximumFrames)));
                return Expression.Call(_reader, s_getStack, Expression.Constant(_texts.Count - 1));
            case MethodCallExpression call when call.Object != _site:
                throw ExpressionCompiler.Refuse(call, "it cannot be called at a hit. Record what it needs, and call it on the records");
            default:
                return Field(node);
        }
    }

    /// <summary>The object is made anew for each record, whether or not what constructs it depends on the hit.</summary>
    protected override Expression VisitMemberInit(MemberInitExpression node) =>
        node.Update((NewExpression)VisitNew(node.NewExpression), Visit(node.Bindings, VisitMemberBinding));

    protected override MemberAssignment VisitMemberAssignment(MemberAssignment node) => node.Update(Visit(node.Expression)!);

    private UnaryExpression Field(Expression node)
    {
        int value = _compiler.Compile(node);
        MethodInfo get = _compiler.Builder.TypeOf(value) switch
        {
            ProgramType.Boolean => Getter(nameof(RecordReader.GetBoolean)),
            ProgramType.Int32 => Getter(nameof(RecordReader.GetInt32)),
            ProgramType.UInt32 => Getter(nameof(RecordReader.GetUInt32)),
            ProgramType.Int64 => Getter(nameof(RecordReader.GetInt64)),
            ProgramType.Double => Getter(nameof(RecordReader.GetDouble)),
            _ => Getter(nameof(RecordReader.GetUInt64)),
        };
        return Expression.Convert(Expression.Call(_reader, get, Expression.Constant(_compiler.Builder.Output(value))), node.Type);
    }
}
