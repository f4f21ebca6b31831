using System.Linq.Expressions;

namespace FastTrap.Programs;

/// <summary>Translates the lambdas of a query into a probe program. What cannot be translated is refused by an exception that names it.</summary>
internal sealed class ExpressionCompiler(ProgramBuilder builder, ParameterExpression site)
{
    public ProgramBuilder Builder { get; } = builder;

    public int Compile(Expression expression)
    {
        if (!UsesSite(expression))
        {
            return CompileConstant(expression);
        }

        return expression switch
        {
            MemberExpression { Expression: { } target } member when target == site => CompileMember(member),
            MethodCallExpression { Object: { } target } call when target == site => CompileCall(call),
            UnaryExpression unary => CompileUnary(unary),
            BinaryExpression binary => CompileBinary(binary),
            ConditionalExpression conditional => Builder.Select(Compile(conditional.Test), Compile(conditional.IfTrue), Compile(conditional.IfFalse)),
            _ => throw Refuse(expression, "a program has arithmetic, comparisons, conditions, casts and what QueryContext offers"),
        };
    }

    public bool UsesSite(Expression expression)
    {
        SiteFinder finder = new(site);
        finder.Visit(expression);
        return finder.IsFound;
    }

    /// <summary>The value of an expression that does not depend on the hit: captured variables have the value they have now.</summary>
    public static object? Evaluate(Expression expression) => expression is ConstantExpression constant
        ? constant.Value
        : Expression.Lambda<Func<object?>>(Expression.Convert(expression, typeof(object))).Compile(preferInterpretation: true)();

    public int CompileConstantIndex(Expression expression, string what, int least, int most)
    {
        if (UsesSite(expression))
        {
            throw Refuse(expression, $"{what} must be a constant");
        }

        int value = (int)Evaluate(expression)!;
        return value >= least && value <= most ? value : throw Refuse(expression, $"{what} is {value}; it may be {least} to {most}");
    }

    public static ArgumentException Refuse(Expression expression, string reason) => new($"'{expression}' cannot be part of a probe program: {reason}.");

    /// <summary>The type that carries a C# type: smaller integers are carried as 32 bits, as C# calculates with them.</summary>
    public static ProgramType? TypeOf(Type type) => Type.GetTypeCode(type) switch
    {
        TypeCode.Boolean => ProgramType.Boolean,
        TypeCode.Byte or TypeCode.SByte or TypeCode.Int16 or TypeCode.UInt16 or TypeCode.Char or TypeCode.Int32 => ProgramType.Int32,
        TypeCode.UInt32 => ProgramType.UInt32,
        TypeCode.Int64 => ProgramType.Int64,
        TypeCode.UInt64 => ProgramType.UInt64,
        TypeCode.Double => ProgramType.Double,
        _ => null,
    };

    private static (int Length, bool IsSigned) SizeOf(Type type) => Type.GetTypeCode(type) switch
    {
        TypeCode.Boolean or TypeCode.Byte => (1, false),
        TypeCode.SByte => (1, true),
        TypeCode.Int16 => (2, true),
        TypeCode.UInt16 or TypeCode.Char => (2, false),
        TypeCode.Int32 => (4, true),
        TypeCode.UInt32 => (4, false),
        TypeCode.Int64 => (8, true),
        _ => (8, false),
    };

    private int CompileConstant(Expression expression)
    {
        ProgramType type = TypeOf(expression.Type) ?? throw Refuse(expression, $"there are no values of type {expression.Type.Name} in a program");
        object value = Evaluate(expression) ?? throw Refuse(expression, "it is null");
        if (value is Enum)
        {
            value = Convert.ChangeType(value, Enum.GetUnderlyingType(value.GetType()), System.Globalization.CultureInfo.InvariantCulture);
        }

        return Builder.Constant(type, value switch
        {
            bool v => v ? 1UL : 0,
            byte v => v,
            sbyte v => (ulong)v,
            short v => (ulong)v,
            ushort v => v,
            char v => v,
            int v => (ulong)v,
            uint v => v,
            long v => (ulong)v,
            ulong v => v,
            double v => BitConverter.DoubleToUInt64Bits(v),
            _ => throw Refuse(expression, $"there are no values of type {expression.Type.Name} in a program"),
        });
    }

    private int CompileMember(MemberExpression member) => member.Member.Name switch
    {
        nameof(QueryContext.ReturnValue) => Builder.Input(ProgramOp.ReturnValue, ProgramType.UInt64),
        nameof(QueryContext.ThreadId) => Builder.Input(ProgramOp.ThreadId, ProgramType.Int32),
        nameof(QueryContext.ProcessId) => Builder.Input(ProgramOp.ProcessId, ProgramType.Int32),
        nameof(QueryContext.TimestampNs) => Builder.Input(ProgramOp.TimestampNs, ProgramType.Int64),
        nameof(QueryContext.ProgramCounter) => Builder.Input(ProgramOp.ProgramCounter, ProgramType.UInt64),
        _ => throw Refuse(member, "QueryContext has nothing of that name"),
    };

    private int CompileCall(MethodCallExpression call)
    {
        switch (call.Method.Name)
        {
            case nameof(QueryContext.Arg):
                return Builder.Input(ProgramOp.Argument, ProgramType.UInt64, (ulong)CompileConstantIndex(call.Arguments[0], "the number of an argument", 0, 63));
            case nameof(QueryContext.Read):
                Type type = call.Method.GetGenericArguments()[0];
                ProgramType carrier = TypeOf(type) ?? throw Refuse(call, $"a {type.Name} cannot be read; read its parts");
                (int length, bool isSigned) = SizeOf(type);
                int address = Compile(call.Arguments[0]);
                return carrier == ProgramType.Boolean
                    ? Builder.Unary(ProgramOp.Not, Builder.Binary(ProgramOp.Equal, Builder.Load(ProgramType.Int32, address, 1, false), Builder.Constant(ProgramType.Int32, 0)))
                    : Builder.Load(carrier, address, length, isSigned);
            case nameof(QueryContext.ReadString):
                throw Refuse(call, "a string can be a field of a record, and nothing else");
            case nameof(QueryContext.Stack):
                throw Refuse(call, "a stack can be a field of a record, and nothing else");
            default:
                throw Refuse(call, "it cannot be called at a hit");
        }
    }

    private int CompileUnary(UnaryExpression unary)
    {
        if (unary.Method is not null)
        {
            throw Refuse(unary, "it is an operator of a type of its own");
        }

        switch (unary.NodeType)
        {
            case ExpressionType.Convert:
                int value = Compile(unary.Operand);
                ProgramType type = TypeOf(unary.Type) ?? throw Refuse(unary, $"there are no values of type {unary.Type.Name} in a program");
                if ((type == ProgramType.Boolean) != (Builder.TypeOf(value) == ProgramType.Boolean))
                {
                    throw Refuse(unary, "a condition is no number");
                }

                int converted = Builder.Convert(value, type);
                (int length, bool isSigned) = SizeOf(unary.Type);
                return length < 4 && type == ProgramType.Int32 ? Builder.Narrow(converted, length, isSigned) : converted;
            case ExpressionType.Negate:
                return Builder.Unary(ProgramOp.Negate, Compile(unary.Operand));
            case ExpressionType.Not or ExpressionType.OnesComplement:
                return Builder.Unary(ProgramOp.Not, Compile(unary.Operand));
            case ExpressionType.UnaryPlus:
                return Compile(unary.Operand);
            default:
                throw Refuse(unary, "arithmetic in a program does not check for overflow, and there are no other operators");
        }
    }

    private int CompileBinary(BinaryExpression binary)
    {
        if (binary.Method is not null)
        {
            throw Refuse(binary, "it is an operator of a type of its own");
        }

        int a = Compile(binary.Left);
        int b = Compile(binary.Right);
        int No() => Builder.Constant(ProgramType.Boolean, 0);
        int Yes() => Builder.Constant(ProgramType.Boolean, 1);
        return binary.NodeType switch
        {
            ExpressionType.Add => Builder.Binary(ProgramOp.Add, a, b),
            ExpressionType.Subtract => Builder.Binary(ProgramOp.Subtract, a, b),
            ExpressionType.Multiply => Builder.Binary(ProgramOp.Multiply, a, b),
            ExpressionType.Divide => Builder.Binary(ProgramOp.Divide, a, b),
            ExpressionType.Modulo => Builder.Binary(ProgramOp.Remainder, a, b),
            ExpressionType.And => Builder.Binary(ProgramOp.And, a, b),
            ExpressionType.Or => Builder.Binary(ProgramOp.Or, a, b),
            ExpressionType.ExclusiveOr => Builder.Binary(ProgramOp.Xor, a, b),
            ExpressionType.LeftShift => Builder.Binary(ProgramOp.ShiftLeft, a, b),
            ExpressionType.RightShift => Builder.Binary(ProgramOp.ShiftRight, a, b),
            ExpressionType.Equal => Builder.Binary(ProgramOp.Equal, a, b),
            ExpressionType.NotEqual => Builder.Unary(ProgramOp.Not, Builder.Binary(ProgramOp.Equal, a, b)),
            ExpressionType.LessThan => Builder.Binary(ProgramOp.Less, a, b),
            ExpressionType.LessThanOrEqual => Builder.Binary(ProgramOp.LessOrEqual, a, b),
            ExpressionType.GreaterThan => Builder.Binary(ProgramOp.Less, b, a),
            ExpressionType.GreaterThanOrEqual => Builder.Binary(ProgramOp.LessOrEqual, b, a),
            ExpressionType.AndAlso => Builder.Select(a, b, No()),
            ExpressionType.OrElse => Builder.Select(a, Yes(), b),
            _ => throw Refuse(binary, "arithmetic in a program does not check for overflow, and there are no other operators"),
        };
    }

    private sealed class SiteFinder(ParameterExpression site) : ExpressionVisitor
    {
        public bool IsFound { get; private set; }

        protected override Expression VisitParameter(ParameterExpression node)
        {
            IsFound |= node == site;
            return node;
        }
    }
}
