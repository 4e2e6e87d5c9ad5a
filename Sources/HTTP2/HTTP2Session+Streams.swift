import CNghttp2

/// What the owner of a session does with single streams. Unknown ones, such as those that have just ended, are left alone.
extension HTTP2Session {
    /// An interim response (1xx): RFC 9113 §8.1.
    package func submitInterim(_ stream: Int32, _ fields: borrowing HTTP2Fields) {
        nghttp2_submit_headers(
            session, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream, nil, fields.storage, fields.count, nil)
    }

    /// The head of the response.
    /// - Parameter hasBody: the delegate will be asked for a body, which may still turn out to be empty.
    package func submitHead(_ stream: Int32, _ fields: borrowing HTTP2Fields, hasBody: Bool) {
        guard hasBody else {
            nghttp2_submit_response(session, stream, fields.storage, fields.count, nil)
            return
        }
        var provider = nghttp2_data_provider(
            source: nghttp2_data_source(), read_callback: HTTP2Callbacks.readBody)
        nghttp2_submit_response(session, stream, fields.storage, fields.count, &provider)
    }

    /// There is more of the body to be sent, or its end.
    package func resume(_ stream: Int32) { nghttp2_session_resume_data(session, stream) }

    /// `count` bytes of a request's body have been taken: the client may send as many more.
    package func consume(_ stream: Int32, _ count: Int) {
        guard count > 0 else { return }
        nghttp2_session_consume(session, stream, count)
    }

    /// As `consume`, for a stream that has ended.
    package func consumeConnection(_ count: Int) {
        guard count > 0 else { return }
        nghttp2_session_consume_connection(session, count)
    }

    /// Ends a stream at once.
    package func reset(_ stream: Int32, _ code: HTTP2ErrorCode) {
        nghttp2_submit_rst_stream(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream, code.rawValue)
    }
}
