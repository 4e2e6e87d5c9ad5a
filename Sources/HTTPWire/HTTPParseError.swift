/// Why a message was refused. Each of these ends the connection: after one, the place of the next message is
/// unknown.
package enum HTTPParseError: Error, Equatable, Sendable, CaseIterable {
    // Lines: RFC 9112 §2.2.
    case bareCarriageReturn, bareLineFeed, controlCharacter, emptyStartLine
    // Request line: RFC 9112 §3.
    case invalidMethod, invalidRequestLine, invalidTarget, invalidVersion, unsupportedVersion
    // Host: RFC 9112 §3.2.
    case missingHost, duplicateHost, invalidHost, hostMismatch
    // Fields: RFC 9112 §5.
    case foldedLine, whitespaceBeforeColon, missingColon, emptyHeaderName, invalidHeaderName
    // Framing: RFC 9112 §6.
    case contentLengthAndTransferEncoding, duplicateContentLength, invalidContentLength
    case unknownTransferCoding, transferEncodingInHTTP10, forbiddenBody
    // Chunks: RFC 9112 §7.
    case invalidChunkSize, invalidChunkExtension, missingChunkEnd, forbiddenTrailer
    // Connection management and expectations.
    case invalidConnectionOption, unsupportedExpectation
    // Status line: RFC 9112 §4.
    case invalidStatusLine
    // Limits.
    case requestLineTooLong, headerLineTooLong, headTooLarge, tooManyHeaders
    case chunkLineTooLong, tooManyChunkExtensions, trailersTooLarge

    /// The status that answers a request refused for this reason. (A response refused for it is the
    /// upstream's fault: 502.)
    package var status: HTTPStatus {
        switch self {
        case .requestLineTooLong: .uriTooLong
        case .headerLineTooLong, .headTooLarge, .tooManyHeaders, .trailersTooLarge:
            .requestHeaderFieldsTooLarge
        case .unsupportedVersion: .httpVersionNotSupported
        case .unsupportedExpectation: .expectationFailed
        default: .badRequest
        }
    }

    /// One short sentence for the problem document and the log. Says nothing of the message's content.
    package var reason: StaticString {
        switch self {
        case .bareCarriageReturn: "a CR without LF"
        case .bareLineFeed: "an LF without CR"
        case .controlCharacter: "a control character in the head"
        case .emptyStartLine: "an empty line where the message should start"
        case .invalidMethod: "the method is not a token"
        case .invalidRequestLine: "the request line is not `method target version`"
        case .invalidTarget: "the request target is invalid"
        case .invalidVersion: "the HTTP version is malformed"
        case .unsupportedVersion: "only HTTP/1.0 and HTTP/1.1 are spoken here"
        case .missingHost: "the Host header is missing"
        case .duplicateHost: "more than one Host header"
        case .invalidHost: "the Host header is invalid"
        case .hostMismatch: "Host and the authority of the target differ"
        case .foldedLine: "a header line begins with white space"
        case .whitespaceBeforeColon: "white space between header name and colon"
        case .missingColon: "a header line without a colon"
        case .emptyHeaderName: "a header line without a name"
        case .invalidHeaderName: "a header name is not a token"
        case .contentLengthAndTransferEncoding: "both Content-Length and Transfer-Encoding"
        case .duplicateContentLength: "more than one Content-Length"
        case .invalidContentLength: "the Content-Length is invalid"
        case .unknownTransferCoding: "a transfer coding other than `chunked`"
        case .transferEncodingInHTTP10: "Transfer-Encoding in an HTTP/1.0 message"
        case .forbiddenBody: "a body where none may be"
        case .invalidChunkSize: "a chunk size is invalid"
        case .invalidChunkExtension: "a chunk extension is invalid"
        case .missingChunkEnd: "chunk data is not followed by CRLF"
        case .forbiddenTrailer: "a header that must not be a trailer"
        case .invalidConnectionOption: "the Connection header is invalid"
        case .unsupportedExpectation: "an expectation other than 100-continue"
        case .invalidStatusLine: "the status line is invalid"
        case .requestLineTooLong: "the request line is too long"
        case .headerLineTooLong: "a header line is too long"
        case .headTooLarge: "the head is too large"
        case .tooManyHeaders: "too many header lines"
        case .chunkLineTooLong: "a chunk-size line is too long"
        case .tooManyChunkExtensions: "too many chunk extensions"
        case .trailersTooLarge: "the trailer section is too large"
        }
    }
}
