import Bytes

/// Free buffers of one size that a loop's channels take while they have something to send, and give back.
struct BufferPool: ~Copyable {
    /// What a response to a small request needs, with room.
    static let bufferBytes = 16 * 1024
    // 64 buffers are 1 MiB a loop, kept for the next burst; more go back to the allocator.
    private static let kept = 64
    private let storage = UnsafeMutablePointer<ByteBuffer>.allocate(capacity: kept)
    private var count = 0

    deinit {
        storage.deinitialize(count: count)
        storage.deallocate()
    }

    mutating func take() -> ByteBuffer {
        guard count > 0 else { return ByteBuffer(capacity: Self.bufferBytes) }
        count -= 1
        return (storage + count).move()
    }

    mutating func give(_ buffer: consuming ByteBuffer) {
        guard count < Self.kept, buffer.allocatedCount == Self.bufferBytes else { return }
        buffer.removeAll()
        (storage + count).initialize(to: buffer)
        count += 1
    }
}

extension EventLoop {
    /// An empty buffer of some KiB from the loop's free list. On the loop only; give it back with
    /// `returnBuffer`.
    package func takeBuffer() -> ByteBuffer {
        assert(inLoop)
        return buffers.take()
    }

    /// Gives back what `takeBuffer` gave. A buffer that has grown goes back to the allocator instead.
    package func returnBuffer(_ buffer: consuming ByteBuffer) {
        assert(inLoop)
        buffers.give(buffer)
    }
}
