using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace FastTrap.Engine.Mechanisms;

/// <summary>
/// Has the runtime compile what arms sites by Jump before it is needed. A method is compiled when it is called for the first time; some hundred in a row take a tenth of a second, in which whatever thread has stopped for a signal or a trap would
/// stand.
/// </summary>
/// <remarks>Scheme. Once in a program, on a pool thread, beside the search for what a query names; the enabling waits for it. Nothing is done where there is no compiler at run time (native ahead-of-time compilation). Generic methods, and the layers that are not named, are left to their first call.</remarks>
internal static class Rehearsal
{
    private const BindingFlags AllMembers = BindingFlags.DeclaredOnly | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static;
    private const MethodImplAttributes MadeByTheRuntime = MethodImplAttributes.InternalCall | MethodImplAttributes.Runtime;

    private static readonly Lazy<Task> s_task = new(static () => Task.Run(Run));

    /// <summary>What of the library is compiled.</summary>
    public static readonly string[] Namespaces =
        ["FastTrap.Native", "FastTrap.Control", "FastTrap.Engine", "FastTrap.Engine.Mechanisms", "FastTrap.Programs", "FastTrap.Programs.Compilation", "FastTrap.Programs.Compilation.X64"];

    /// <summary>Begins it, if nobody has, and completes when it is over. If the runtime refuses, that is told to the log: what is not compiled now is when it is called.</summary>
    public static async Task RunAsync(ILogger logger)
    {
        if (!RuntimeFeature.IsDynamicCodeCompiled)
        {
            return;
        }

        try
        {
            await s_task.Value.ConfigureAwait(false);
        }
        catch (Exception e)
        {
            Control.Log.NotRehearsed(logger, e);
        }
    }

    private static void Run()
    {
        foreach (Type type in Namespaces.SelectMany(TypesIn))
        {
            _ = Compile(type);
        }

        // The assembler's code is another library's: it is called.
        const ulong Anywhere = 0x10000;
        _ = GuardCode.Assemble(Anywhere, Anywhere, Anywhere, Anywhere, Anywhere, Anywhere, 0, out _);
    }

    /// <summary>What a namespace of the library has, but for generic types.</summary>
    [UnconditionalSuppressMessage("Trimming", "IL2026", Justification = "What was trimmed away is not called, so it need not be compiled.")]
    public static IEnumerable<Type> TypesIn(string name) =>
        new[] { typeof(Native.IPlatform).Assembly, typeof(Rehearsal).Assembly }.SelectMany(static a => a.GetTypes()).Where(t => t.Namespace == name && !t.ContainsGenericParameters);

    /// <summary>Compiles the methods of a type, and says how many.</summary>
    [UnconditionalSuppressMessage("Trimming", "IL2070", Justification = "What was trimmed away is not called, so it need not be compiled.")]
    public static int Compile(Type type)
    {
        int count = 0;
        foreach (MethodBase method in type.GetMembers(AllMembers).OfType<MethodBase>())
        {
            if (!method.IsAbstract && !method.ContainsGenericParameters && !method.Attributes.HasFlag(MethodAttributes.PinvokeImpl) && (method.MethodImplementationFlags & MadeByTheRuntime) == 0)
            {
                RuntimeHelpers.PrepareMethod(method.MethodHandle);
                count++;
            }
        }

        return count;
    }
}
