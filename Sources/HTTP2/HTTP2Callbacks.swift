import Bytes
import CNghttp2

/// What nghttp2 calls, as functions without context: the session comes along as a pointer.
enum HTTP2Callbacks {
    private static let giveUp = Int32(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)

    // The table is made once and only read afterwards; nghttp2 copies it into each session.
    nonisolated(unsafe) static let table: OpaquePointer? = {
        var table: OpaquePointer?
        nghttp2_session_callbacks_new(&table)
        nghttp2_session_callbacks_set_on_begin_frame_callback(table) { _, header, user in
            guard let header, let session = HTTP2Callbacks.session(user) else { return 0 }
            return session.frameDidBegin(header.pointee) ? 0 : HTTP2Callbacks.giveUp
        }
        nghttp2_session_callbacks_set_on_begin_headers_callback(table) { _, frame, user in
            guard let frame else { return 0 }
            HTTP2Callbacks.session(user)?.headDidBegin(frame.pointee)
            return 0
        }
        nghttp2_session_callbacks_set_on_header_callback(table) {
            _, _, name, nameLength, value, length, _, user in
            let isFine = HTTP2Callbacks.session(user)?.fieldDidCome(
                UnsafeRawBufferPointer(start: name, count: nameLength),
                UnsafeRawBufferPointer(start: value, count: length))
            return isFine ?? true ? 0 : HTTP2Callbacks.giveUp
        }
        nghttp2_session_callbacks_set_on_invalid_header_callback(table) { _, _, _, _, _, _, _, _ in
            // nghttp2 would leave the field out and go on: RFC 9113 §8.2.1 calls the message malformed.
            Int32(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
        }
        nghttp2_session_callbacks_set_on_frame_recv_callback(table) { _, frame, user in
            guard let frame, let session = HTTP2Callbacks.session(user) else { return 0 }
            return session.frameDidCome(frame.pointee) ? 0 : HTTP2Callbacks.giveUp
        }
        nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(table) { _, _, _, user in
            guard let session = HTTP2Callbacks.session(user) else { return 0 }
            // It may have been a head that will not be completed.
            session.isReadingHead = false
            return session.countReset() ? 0 : HTTP2Callbacks.giveUp
        }
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(table) { _, _, stream, data, length, user in
            HTTP2Callbacks.session(user)?.delegate?.http2DidReceiveBody(
                stream, UnsafeRawBufferPointer(start: data, count: length))
            return 0
        }
        nghttp2_session_callbacks_set_on_stream_close_callback(table) { _, stream, code, user in
            HTTP2Callbacks.session(user)?.delegate?.http2DidClose(stream, HTTP2ErrorCode(rawValue: code))
            return 0
        }
        nghttp2_session_callbacks_set_on_frame_send_callback(table) { _, frame, user in
            guard let frame else { return 0 }
            HTTP2Callbacks.session(user)?.frameDidGo(frame.pointee)
            return 0
        }
        nghttp2_session_callbacks_set_send_data_callback(table) { _, frame, header, length, _, user in
            guard let frame, let header, let session = HTTP2Callbacks.session(user) else { return 0 }
            let isFull = session.writeData(frame.pointee.hd.stream_id, header, length)
            return isFull ? Int32(NGHTTP2_ERR_PAUSE.rawValue) : 0
        }
        return table
    }()

    /// Offers the next piece of a body; `writeData` fetches it, straight into the output.
    static let readBody: nghttp2_data_source_read_callback = { _, stream, _, length, flags, _, user in
        guard let flags, let session = HTTP2Callbacks.session(user), let delegate = session.delegate else {
            return Int(NGHTTP2_ERR_DEFERRED.rawValue)
        }
        let piece = delegate.http2NextBody(stream, limit: length)
        guard piece.count > 0 || piece.isEnd else { return Int(NGHTTP2_ERR_DEFERRED.rawValue) }
        flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
        if piece.isEnd {
            flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
            if piece.hasTrailers {
                flags.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
                session.submitTrailers(stream, delegate)
            }
        }
        return piece.count
    }

    private static func session(_ user: UnsafeMutableRawPointer?) -> HTTP2Session? {
        user.map { Unmanaged<HTTP2Session>.fromOpaque($0).takeUnretainedValue() }
    }
}

extension HTTP2Session {
    /// - Returns: false when there have been too many like it.
    func frameDidBegin(_ header: nghttp2_frame_hd) -> Bool {
        switch UInt32(header.type) {
        case NGHTTP2_RST_STREAM.rawValue: return countReset()
        case NGHTTP2_WINDOW_UPDATE.rawValue: return windowUpdates.take(nowNs: nowNs) || calm()
        case NGHTTP2_DATA.rawValue, NGHTTP2_HEADERS.rawValue: return true
        default: return idleFrames.take(nowNs: nowNs) || calm()
        }
    }

    /// Counts a stream that ends without anything having come of it.
    func countReset() -> Bool { resets.take(nowNs: nowNs) || calm() }

    private func calm() -> Bool {
        violation = .enhanceYourCalm
        return false
    }

    func headDidBegin(_ frame: nghttp2_frame) {
        isReadingHead = true
        head.begin(isTrailers: frame.headers.cat != NGHTTP2_HCAT_REQUEST)
    }

    /// - Returns: false when the head is so large that it is an attack.
    func fieldDidCome(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
        head.add(name, value, limitBytes: limits.headLimitBytes)
        return head.decodedBytes <= limits.headBombBytes || calm()
    }

    /// - Returns: false when there have been too many like it.
    func frameDidCome(_ frame: nghttp2_frame) -> Bool {
        let stream = frame.hd.stream_id
        let isEnd = UInt32(frame.hd.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0
        switch UInt32(frame.hd.type) {
        case NGHTTP2_HEADERS.rawValue:
            isReadingHead = false
            defer { head.trim() }
            let isRequest = frame.headers.cat == NGHTTP2_HCAT_REQUEST
            guard head.finish(isEnd: isEnd), isRequest || !head.isCut else {
                reset(stream, .protocolError)
                return countReset()
            }
            if isRequest {
                head.withBytes { bytes in
                    delegate?.http2DidReceiveHead(
                        stream, bytes, isEnd: isEnd, acceptsTrailers: head.acceptsTrailers, isCut: head.isCut)
                }
            } else {
                head.withBytes { delegate?.http2DidReceiveEnd(stream, trailers: $0) }
            }
        case NGHTTP2_DATA.rawValue:
            if isEnd {
                delegate?.http2DidReceiveEnd(stream, trailers: UnsafeRawBufferPointer(start: nil, count: 0))
            } else if frame.hd.length == frame.data.padlen {
                return idleFrames.take(nowNs: nowNs) || calm()
            }
        case NGHTTP2_SETTINGS.rawValue: hasSettings = true
        default: break
        }
        return true
    }

    func frameDidGo(_ frame: nghttp2_frame) {
        let type = UInt32(frame.hd.type)
        if type == NGHTTP2_GOAWAY.rawValue { sentGoAway = HTTP2ErrorCode(rawValue: frame.goaway.error_code) }
        guard type == NGHTTP2_DATA.rawValue || type == NGHTTP2_HEADERS.rawValue else { return }
        // For the stream and for the connection.
        if type == NGHTTP2_DATA.rawValue { windowUpdates.give(2) }
        guard UInt32(frame.hd.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0,
            nghttp2_session_get_stream_remote_close(session, frame.hd.stream_id) == 0
        else { return }
        // RFC 9113 §8.1: the answer is complete; whatever is left of the request need not come.
        reset(frame.hd.stream_id, .noError)
    }

    /// Writes a DATA frame, header and all.
    /// - Returns: true when the output has as much as was asked for.
    func writeData(_ stream: Int32, _ header: UnsafePointer<UInt8>, _ count: Int) -> Bool {
        output.append(UnsafeRawBufferPointer(start: header, count: 9))
        if count > 0 { delegate?.http2WriteBody(stream, count: count, to: &output) }
        return output.count >= outputLimitBytes
    }

    func submitTrailers(_ stream: Int32, _ delegate: any HTTP2SessionDelegate) {
        var fields = HTTP2Fields()
        delegate.http2WriteTrailers(stream, to: &fields)
        nghttp2_submit_trailer(session, stream, fields.storage, fields.count)
    }
}
