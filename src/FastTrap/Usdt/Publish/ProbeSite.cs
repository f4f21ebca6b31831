using System.Runtime.CompilerServices;

namespace FastTrap.Usdt;

/// <summary>Where a probe is in this process. Immutable; whoever uses it keeps it alive until the use is over, for the image lives as long.</summary>
internal sealed unsafe class ProbeSite
{
    private readonly ushort* _semaphore;

    /// <summary>Makes a site.</summary>
    public ProbeSite(PublishedImage? image, nint function, ushort* semaphore)
    {
        Image = image;
        Function = function;
        _semaphore = semaphore;
    }

    /// <summary>The site of a probe which is not published: its semaphore is 0 for ever.</summary>
    public static ProbeSite Nowhere { get; } = new(null, 0, (ushort*)RuntimeHelpers.AllocateTypeAssociatedMemory(typeof(ProbeSite), sizeof(ushort)));

    /// <summary>What keeps the memory mapped; null of <see cref="Nowhere"/>.</summary>
    public PublishedImage? Image { get; }

    /// <summary>The function to call.</summary>
    public nint Function { get; }

    /// <summary>Whether somebody has raised the semaphore.</summary>
    public bool IsEnabled
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Volatile.Read(ref *_semaphore) != 0;
    }
}
