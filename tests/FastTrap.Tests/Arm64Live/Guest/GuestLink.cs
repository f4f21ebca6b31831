using System.Buffers.Binary;
using System.Net.Sockets;

namespace FastTrap.Tests.Arm64Live.Guest;

/// <summary>The connection to the proxy in the guest: frames of many channels over one socket.</summary>
/// <remarks>
/// Scheme. Any thread sends, under the one lock; a thread of the link's own receives and hands each answer to whoever waits for it. A thread has its own channel,
/// made when it first asks, because the kernel knows a tracer by its thread; the channels of threads that have ended are closed when others look, which ends their
/// threads in the guest.
/// </remarks>
internal sealed class GuestLink : IDisposable
{
    private const int ChannelCount = 256;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(60);

    private readonly Socket _socket;
    private readonly Thread _receiver;
    private readonly ThreadLocal<GuestChannel> _ofThread;
    private readonly Waiter?[] _waiters = new Waiter?[ChannelCount];
    private readonly List<(Thread Thread, int Id)> _owned = [];
    private readonly Stack<int> _free = new(Enumerable.Range(0, ChannelCount).Reverse());
    private readonly Lock _gate = new();
    private readonly Lock _sending = new();
    private volatile string? _failure;

    public GuestLink(string path)
    {
        _socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        _socket.Connect(new UnixDomainSocketEndPoint(path));
        _ofThread = new ThreadLocal<GuestChannel>(OpenForThread);
        _receiver = new Thread(Receive) { IsBackground = true, Name = "guest link" };
        _receiver.Start();
    }

    /// <summary>The calling thread's channel.</summary>
    public GuestChannel OfThread => _ofThread.Value!;

    /// <summary>Opens a channel which is nobody's; <see cref="Close"/> it.</summary>
    public GuestChannel Open()
    {
        CloseThoseOfEndedThreads();
        GuestChannel channel;
        lock (_gate)
        {
            int id = _free.Pop();
            _waiters[id] = new Waiter();
            channel = new GuestChannel(this, id);
        }

        channel.ThreadId = (int)channel.Begin().AskThreadId().Exchange().TakeResult();
        return channel;
    }

    /// <summary>Ends a channel's thread in the guest.</summary>
    public void Close(int id)
    {
        Span<byte> end = stackalloc byte[8];
        BinaryPrimitives.WriteInt32LittleEndian(end[4..], id);
        if (_failure is null)
        {
            Send(end);
        }

        lock (_gate)
        {
            // The guest reads in order: whoever has the number next finds a new thread.
            _waiters[id] = null;
            _free.Push(id);
        }
    }

    /// <summary>Lets the guest's threads go whose owners have ended.</summary>
    public void CloseThoseOfEndedThreads()
    {
        int[] ended;
        lock (_gate)
        {
            ended = [.. _owned.Where(o => !o.Thread.IsAlive).Select(o => o.Id)];
            _owned.RemoveAll(o => ended.Contains(o.Id));
        }

        foreach (int id in ended)
        {
            Close(id);
        }
    }

    /// <summary>Sends a frame and waits for the answer to it.</summary>
    /// <exception cref="IOException">The guest is gone, or does not answer.</exception>
    public byte[] Exchange(int id, ReadOnlySpan<byte> frame, bool isEndless)
    {
        Waiter waiter = _waiters[id] ?? throw new InvalidOperationException("The channel is closed.");
        if (_failure is { } before)
        {
            throw new IOException(before);
        }

        waiter.Done.Reset();
        waiter.Answer = null;
        Send(frame);
        if (!waiter.Done.Wait(isEndless ? Timeout.InfiniteTimeSpan : s_patience))
        {
            _failure = "The guest does not answer.";
            throw new IOException(_failure);
        }

        return waiter.Answer ?? throw new IOException(_failure ?? "The guest has ended.");
    }

    public void Dispose()
    {
        _failure ??= "The link to the guest is closed.";
        _socket.Dispose();
        _receiver.Join();
        _ofThread.Dispose();
    }

    private GuestChannel OpenForThread()
    {
        GuestChannel channel = Open();
        lock (_gate)
        {
            _owned.Add((Thread.CurrentThread, channel.Id));
        }

        return channel;
    }

    private void Send(ReadOnlySpan<byte> frame)
    {
        try
        {
            lock (_sending)
            {
                while (!frame.IsEmpty)
                {
                    frame = frame[_socket.Send(frame)..];
                }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            _failure ??= $"The guest has ended ({e.Message}).";
            throw new IOException(_failure, e);
        }
    }

    private void Receive()
    {
        byte[] header = new byte[8];
        try
        {
            while (TryReceive(header))
            {
                byte[] answer = new byte[BinaryPrimitives.ReadInt32LittleEndian(header)];
                if (!TryReceive(answer))
                {
                    break;
                }

                if (_waiters[BinaryPrimitives.ReadInt32LittleEndian(header.AsSpan(4))] is { } waiter)
                {
                    waiter.Answer = answer;
                    waiter.Done.Set();
                }
            }

            _failure ??= "The guest has ended.";
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            _failure ??= $"The guest has ended ({e.Message}).";
        }

        foreach (Waiter? waiter in _waiters)
        {
            waiter?.Done.Set();
        }
    }

    private bool TryReceive(Span<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            int length = _socket.Receive(buffer);
            if (length == 0)
            {
                return false;
            }

            buffer = buffer[length..];
        }

        return true;
    }

    private sealed class Waiter
    {
        public ManualResetEventSlim Done { get; } = new();

        public byte[]? Answer { get; set; }
    }
}
