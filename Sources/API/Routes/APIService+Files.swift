import HTTPServer
import HTTPWire
import Postgres

extension APIService {
    func addFileRoutes(_ routes: inout RouterBuilder) {
        routes.get(
            "/v1/files/:id",
            authenticated { request, stores, caller in
                let id = try request.identifier("id")
                let file = try await stores.files.find(
                    id: id, account: caller.accountID, seesAll: caller.isAdmin)
                guard let file else { throw Answers.notFound }
                let files = stores.streamedFiles
                var response = Response.stream(
                    contentType: Self.contentType(file.contentType), length: file.byteCount
                ) { writer in
                    var number = 0
                    while let chunk = try await files.chunk(of: id, number: number) {
                        try await writer.write(chunk)
                        number += 1
                    }
                }
                try response.headers.append("content-disposition", "attachment; filename=\"\(file.name)\"")
                response.headers.append("x-content-type-options", fixed: "nosniff")
                return response
            })
    }

    /// Only types that we have made ourselves are served as such.
    private static func contentType(_ stored: String) -> StaticString {
        stored == "application/x-ndjson" ? "application/x-ndjson" : "application/octet-stream"
    }
}
