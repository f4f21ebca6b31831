using FastTrap.Native;
using Microsoft.Extensions.Logging;

namespace FastTrap.Engine.Mechanisms;

/// <summary>Gives fork children whole windows back: those of the index, and those restored a moment ago, which a child that was forked before may still have. Control thread only.</summary>
/// <remarks>Whatever step a child's copy shows, it is ours by all its bytes; nothing else is written over.</remarks>
internal sealed class WindowLedger
{
    private static readonly TimeSpan s_memoryTime = TimeSpan.FromSeconds(10);

    private const int PageLength = 4096;
    private const ulong PageMask = ~(PageLength - 1UL);

    private readonly Recent<JumpSite> _removed = new(s_memoryTime);
    private readonly byte[] _page = new byte[PageLength + 16];

    public bool IsEmpty => _removed.IsEmpty;

    /// <summary>Remembers a window that was restored, or went with its library.</summary>
    public void Add(JumpSite site) => _removed.Add(site);

    public void Clean(IPlatform platform, TargetMemory child, int childProcessId, JumpIndex index, ILogger logger)
    {
        ReadOnlySpan<JumpSite> sites = index.Sites;
        for (int first = 0, next; first < sites.Length; first = next)
        {
            ulong page = sites[first].Start & PageMask;
            for (next = first + 1; next < sites.Length && (sites[next].Start & PageMask) == page; next++)
            {
            }

            CleanPage(platform, child, childProcessId, sites[first..next], logger);
        }

        foreach (JumpSite site in _removed.All())
        {
            Restore(platform, child, childProcessId, site, logger);
        }
    }

    /// <summary>Nobody runs in the child: one read and one write for a page.</summary>
    private void CleanPage(IPlatform platform, TargetMemory child, int childProcessId, ReadOnlySpan<JumpSite> sites, ILogger logger)
    {
        ulong start = sites[0].Start;
        Span<byte> bytes = _page.AsSpan(0, (int)(sites[^1].PatchEnd - start));
        bool isChanged = false;
        bool isDone = platform.ReadCode(child, start, bytes) == bytes.Length;
        if (isDone)
        {
            foreach (JumpSite site in sites)
            {
                Span<byte> here = bytes.Slice((int)(site.Start - start), site.PatchLength);
                if (JumpText.IsOurs(site, here))
                {
                    site.Original.AsSpan(0, site.PatchLength).CopyTo(here);
                    isChanged = true;
                }
            }

            isDone = !isChanged || platform.WriteCode(child, start, bytes) == bytes.Length;
        }

        foreach (JumpSite site in sites)
        {
            if (!isDone || site.IslandPatch.Length != 0)
            {
                Restore(platform, child, childProcessId, site, logger);
            }
        }
    }

    private static void Restore(IPlatform platform, TargetMemory child, int childProcessId, JumpSite site, ILogger logger)
    {
        // There is no second chance: what stays may kill the child.
        if (!JumpText.Restore(platform, child, site) && !JumpText.Restore(platform, child, site))
        {
            Control.Log.TextNotRestored(logger, childProcessId, site.Start, (int)Errno.EIO);
        }
    }
}
