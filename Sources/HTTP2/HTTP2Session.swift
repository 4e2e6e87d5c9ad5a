import Bytes
import CNghttp2

/// The server's side of one HTTP/2 connection (RFC 9113) as a pure transformation: received bytes in, requests out;
/// responses in, bytes to send out. nghttp2 does the frames, the compression and the states of streams; this adds limits
/// on what a client may do without asking for anything, and turns fields into heads of HTTP/1.1 and back.
///
/// It has no clock: `receive` is told the time. A session belongs to one thread.
package final class HTTP2Session {
    let limits: HTTP2Limits
    /// nil once closed.
    private(set) var session: OpaquePointer?
    /// Set while `receive` or `send` runs.
    var delegate: (any HTTP2SessionDelegate)?
    /// What is to be sent, in order. `send` fills it; the owner takes what is in it, and may put memory of its own there.
    package var output = ByteBuffer()
    var outputLimitBytes = 0

    var head = RequestHead()
    /// A head has begun and is not complete.
    package internal(set) var isReadingHead = false
    /// The client's first SETTINGS have come: it does speak HTTP/2.
    package internal(set) var hasSettings = false
    var nowNs: UInt64
    var resets: TokenBucket
    var idleFrames: TokenBucket
    var windowUpdates: TokenBucket
    /// What the last GOAWAY said; nil before one.
    package internal(set) var sentGoAway: HTTP2ErrorCode?
    /// Why a callback has given up.
    var violation: HTTP2ErrorCode?

    /// A session that has its own SETTINGS to send.
    /// - Parameter nowNs: `CLOCK_MONOTONIC` nanoseconds, as for `receive`.
    package init(limits: HTTP2Limits = HTTP2Limits(), nowNs: UInt64) {
        self.limits = limits
        self.nowNs = nowNs
        resets = TokenBucket(limits.resets, nowNs: nowNs)
        idleFrames = TokenBucket(limits.idleFrames, nowNs: nowNs)
        windowUpdates = TokenBucket(limits.windowUpdates, nowNs: nowNs)
        session = Self.open(limits, Unmanaged.passUnretained(self).toOpaque())
        var settings = [
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue),
                value: limits.concurrentStreams),
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
                value: UInt32(limits.streamWindowBytes)),
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.rawValue),
                value: UInt32(limits.headLimitBytes)),
            // RFC 9218 §2.1: without the tree of dependencies there is nothing to attack it by.
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES.rawValue), value: 1),
        ]
        let flags = UInt8(NGHTTP2_FLAG_NONE.rawValue)
        nghttp2_submit_settings(session, flags, &settings, settings.count)
        nghttp2_session_set_local_window_size(session, flags, 0, limits.connectionWindowBytes)
    }

    deinit { close() }

    private static func open(_ limits: HTTP2Limits, _ user: UnsafeMutableRawPointer) -> OpaquePointer? {
        var option: OpaquePointer?
        var session: OpaquePointer?
        nghttp2_option_new(&option)
        nghttp2_option_set_no_auto_window_update(option, 1)
        nghttp2_option_set_no_closed_streams(option, 1)
        nghttp2_option_set_max_continuations(option, limits.continuations)
        // A second line behind our own count, which also sees the resets that a client makes us send.
        nghttp2_option_set_stream_reset_rate_limit(
            option, UInt64(2 * limits.resets.burst), UInt64(2 * limits.resets.perSecond))
        nghttp2_session_server_new2(&session, HTTP2Callbacks.table, user, option)
        nghttp2_option_del(option)
        precondition(session != nil, "nghttp2 gives no session: out of memory")
        return session
    }

    /// Ends the session; nothing is told or asked any more. Not from inside `receive` or `send`.
    package func close() {
        nghttp2_session_del(session)
        session = nil
    }

    // MARK: Receiving

    /// Takes what the client has sent.
    /// - Returns: false when the client has to be sent away: a GOAWAY waits to be sent, and what else it says does not
    ///   matter.
    package func receive(
        _ bytes: UnsafeRawBufferPointer, nowNs: UInt64, delegate: any HTTP2SessionDelegate
    ) -> Bool {
        guard session != nil, let base = bytes.baseAddress else { return true }
        self.nowNs = nowNs
        self.delegate = delegate
        defer { self.delegate = nil }
        let status = nghttp2_session_mem_recv(
            session, base.assumingMemoryBound(to: UInt8.self), bytes.count)
        guard status < 0 else { return true }
        let isMagic = status == Int(NGHTTP2_ERR_BAD_CLIENT_MAGIC.rawValue)
        // What nghttp2 ends a session for by itself are floods: of CONTINUATION frames, or of acknowledgements that the
        // client does not fetch.
        terminate(violation ?? (isMagic ? .protocolError : .enhanceYourCalm))
        return false
    }

    // MARK: Sending

    /// Fills `output` with what can be sent now, until it holds `limitBytes` or a little more.
    /// - Returns: false when nothing is left that can be sent now.
    package func send(limitBytes: Int, delegate: any HTTP2SessionDelegate) -> Bool {
        guard session != nil else { return false }
        outputLimitBytes = limitBytes
        self.delegate = delegate
        defer { self.delegate = nil }
        while output.count < limitBytes {
            var data: UnsafePointer<UInt8>?
            let before = output.count
            let count = nghttp2_session_mem_send(session, &data)
            if count > 0 {
                output.append(UnsafeRawBufferPointer(start: data, count: count))
            } else if output.count == before {
                return false
            }
        }
        return true
    }

    /// True when there is nothing more to say to each other: RFC 9113 §5.4.1, §6.8.
    package var isFinished: Bool {
        session == nil
            || (nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0)
    }

    /// True when something is to be sent, windows permitting.
    package var wantsWrite: Bool { session != nil && nghttp2_session_want_write(session) != 0 }

    // MARK: Ending

    /// Says that no more requests should come, and still takes those that are on their way: RFC 9113 §6.8.
    package func announceShutdown() { nghttp2_submit_shutdown_notice(session) }

    /// Takes no more requests; those that were taken end.
    package func goAway() {
        let last = nghttp2_session_get_last_proc_stream_id(session)
        nghttp2_submit_goaway(
            session, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, HTTP2ErrorCode.noError.rawValue, nil, 0)
    }

    /// Ends at once, streams and all, with a GOAWAY.
    package func terminate(_ code: HTTP2ErrorCode) {
        nghttp2_session_terminate_session(session, code.rawValue)
    }
}
