import Bytes
import HTTP2

/// What the HTTP/2 connections of one loop share, because only one of them works at a time.
final class HTTP2Workshop {
    /// Where the frames of one connection gather before they are sent; lent to its session meanwhile.
    var scratch = ByteBuffer()
    /// The fields of the head that is being submitted.
    var fields = HTTP2Fields()
    private unowned let proxy: ProxyLoop
    private var idleStreams: [HTTP2Stream] = []
    private var isClosed = false
    private var pumpList: [HTTP2Connection] = []
    private var pumping: [HTTP2Connection] = []
    private lazy var pumpAll: () -> Void = { [unowned self] in
        swap(&pumping, &pumpList)
        for connection in pumping { connection.pump() }
        pumping.removeAll(keepingCapacity: true)
    }
    // As many as two busy connections have: the next streams cost no memory.
    private static let idleStreamLimit = 256

    init(proxy: ProxyLoop) { self.proxy = proxy }

    /// Has `connection` send what it has to at the end of this wake-up.
    func schedulePump(_ connection: HTTP2Connection) {
        if pumpList.isEmpty { proxy.loop.atEndOfWakeup(pumpAll) }
        pumpList.append(connection)
    }

    /// A stream that is in no use.
    func takeStream() -> HTTP2Stream { idleStreams.popLast() ?? HTTP2Stream(proxy: proxy) }

    /// Takes back what `takeStream` gave.
    func giveStream(_ stream: HTTP2Stream) {
        if idleStreams.count < Self.idleStreamLimit, !isClosed {
            idleStreams.append(stream)
        } else {
            stream.exchange.timer.invalidate()
        }
    }

    /// The loop ends: streams that come back are not kept.
    func invalidate() {
        isClosed = true
        for stream in idleStreams { stream.exchange.timer.invalidate() }
        idleStreams = []
    }
}
