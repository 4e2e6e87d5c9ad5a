/// A response as a test client understands it.
package struct TestHTTPResponse {
    package var status = 0
    package var head = ""
    package var headers: [(name: String, value: String)] = []
    package var body = ""
    package var trailers = ""

    package init() {}

    /// The value of the first header of this name, in any case.
    package subscript(name: String) -> String? {
        headers.first { $0.name.lowercased() == name.lowercased() }?.value
    }
}

extension TestHTTPConnection {
    /// Sends `request` and reads the response.
    package func exchange(_ request: String, isHead: Bool = false) throws -> TestHTTPResponse {
        try send(request)
        return try readResponse(isHead: isHead)
    }

    /// Reads one response, its body by Content-Length, by chunks, or until the end.
    package func readResponse(isHead: Bool = false) throws -> TestHTTPResponse {
        var response = TestHTTPResponse()
        response.head = try read(through: "\r\n\r\n")
        let lines = response.head.split(separator: "\r\n")
        guard let first = lines.first, first.hasPrefix("HTTP/1.1 "),
            let status = Int(first.dropFirst(9).prefix(3))
        else {
            throw TestFailure("no status line: \(response.head)")
        }
        response.status = status
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { throw TestFailure("no header: \(line)") }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            response.headers.append((String(line[..<colon]), String(value)))
        }
        if isHead || status < 200 || status == 204 || status == 304 { return response }
        if let length = response["content-length"] {
            guard let count = Int(length) else { throw TestFailure("content-length \(length)") }
            response.body = String(decoding: try read(count: count), as: UTF8.self)
        } else if response["transfer-encoding"] == "chunked" {
            try readChunks(into: &response)
        } else {
            response.body = try readToEnd()
        }
        return response
    }

    private func readChunks(into response: inout TestHTTPResponse) throws {
        while true {
            let line = try read(through: "\r\n")
            guard let size = Int(line.dropLast(1), radix: 16) else { throw TestFailure("chunk size \(line)") }
            if size == 0 { break }
            response.body += String(decoding: try read(count: size), as: UTF8.self)
            guard try read(count: 2) == [13, 10] else { throw TestFailure("no CRLF behind a chunk") }
        }
        while true {
            let line = try read(through: "\r\n")
            if line == "\r\n" { return }
            response.trailers += line
        }
    }
}
