import Bytes
import HTTPServer
import HTTPWire
import Jobs

extension APIService {
    static let pageSizes = 1...200
    static let defaultPageSize = 50

    func addRecordRoutes(_ routes: inout RouterBuilder) {
        let list = "/v1/collections/:collection/records"
        let one = "/v1/collections/:collection/records/:id"
        routes.post(
            list,
            authenticated { request, stores, caller in
                try await Self.createRecord(request, stores, caller)
            })
        routes.get(
            list,
            authenticated { request, stores, caller in
                try await Self.listRecords(request, stores, caller)
            })
        routes.get(
            one,
            authenticated { request, stores, caller in
                let scope = try Self.scope(request, caller)
                guard let record = try await stores.records.find(id: request.identifier("id"), scope: scope)
                else {
                    throw Answers.notFound
                }
                if let condition = request.header(.ifNoneMatch),
                    EntityTags(condition)?.matchesWeakly(record.version) == true
                {
                    var response = Response(.notModified)
                    try response.headers.append("etag", record.entityTag)
                    return response
                }
                return try Self.answer(record)
            })
        routes.put(
            one,
            authenticated { request, stores, caller in
                let scope = try Self.scope(request, caller)
                let id = try request.identifier("id")
                let body = try await Self.readData(request)
                let change = try await stores.records.replace(
                    id: id, scope: scope, data: body.text, versions: try Self.wantedVersions(request))
                return try Self.answer(try Self.record(of: change))
            })
        routes.delete(
            one,
            authenticated { request, stores, caller in
                let scope = try Self.scope(request, caller)
                let change = try await stores.records.delete(
                    id: try request.identifier("id"), scope: scope, versions: try Self.wantedVersions(request)
                )
                _ = try Self.record(of: change)
                return Response(.noContent)
            })
    }

    /// The body is the data → 201 with the record and where it is.
    private static func createRecord(
        _ request: Request, _ stores: RequestStores, _ caller: Caller
    ) async throws -> Response {
        let scope = try scope(request, caller)
        let body = try await readData(request)
        let idempotency = try request.idempotencyKey(for: Array(scope.collection.utf8), body.bytes)
        let creation = try await stores.records.create(
            id: NewID.make(), scope: scope, data: body.text, idempotency: idempotency)
        switch creation {
        case .created(let record), .repeated(let record):
            var response = try answer(record, status: .created)
            try response.headers.append(
                "location", "/v1/collections/\(record.collection)/records/\(record.id)")
            return response
        case .conflict:
            throw Answers.idempotencyConflict
        }
    }

    /// `?limit=&cursor=` → `{items, next_cursor}`, in the order in which the records were made.
    private static func listRecords(
        _ request: Request, _ stores: RequestStores, _ caller: Caller
    ) async throws -> Response {
        let scope = try scope(request, caller)
        let query = try request.queryItems()
        var limit = defaultPageSize
        if let text = query["limit"] {
            guard let number = Int(text), pageSizes.contains(number) else {
                throw Answers.badRequest(
                    "limit must be an integer from \(pageSizes.lowerBound) to \(pageSizes.upperBound).",
                    code: "invalid_limit")
            }
            limit = number
        }
        var after = RecordCursor.start
        if let text = query["cursor"] {
            guard let id = RecordCursor.decode(text) else {
                throw Answers.badRequest(
                    "cursor must be the next_cursor of an earlier page.", code: "invalid_cursor")
            }
            after = id
        }
        let (page, hasMore) = try await stores.records.list(scope: scope, after: after, limit: limit)
        return .json { json in
            json.beginObject()
            json.key("items")
            json.beginArray()
            for record in page { record.write(to: &json) }
            json.endArray()
            json.member(
                "next_cursor",
                hasMore ? page.last.map { RecordCursor.encode(after: $0.id) } : nil)
            json.endObject()
        }
    }

    private static func scope(_ request: Request, _ caller: Caller) throws(HTTPError) -> RecordScope {
        let collection = request.parameter("collection")
        guard CollectionName.isValid(collection) else {
            throw Answers.badRequest(
                "The name of a collection \(CollectionName.rule).", code: "invalid_collection")
        }
        return RecordScope(collection: collection, account: caller.accountID, seesAll: caller.isAdmin)
    }

    private static func readData(_ request: Request) async throws -> JSONBody {
        let body = try await JSONBody.read(request)
        guard body.value.objectValue != nil else { throw InvalidMembers("", "must be an object") }
        return body
    }

    /// The versions that If-Match asks for; nil when any will do.
    /// - Throws: 400 when it is malformed.
    private static func wantedVersions(_ request: Request) throws(HTTPError) -> [Int]? {
        let lines = request.headers(.ifMatch)
        guard !lines.isEmpty else { return nil }
        guard let tags = EntityTags(lines.joined(separator: ", ")) else {
            throw Answers.badRequest("If-Match must be * or entity tags in quotes.", code: "invalid_if_match")
        }
        return tags.matchesAny ? nil : tags.strongVersions
    }

    private static let versionMismatch = HTTPError(
        .preconditionFailed, "The record has another version by now: read it again.", code: "version_mismatch"
    )

    private static func record(of change: RecordStore.Change) throws(HTTPError) -> Record {
        switch change {
        case .done(let record): return record
        case .missing: throw Answers.notFound
        case .versionMismatch: throw versionMismatch
        }
    }

    private static func answer(_ record: Record, status: HTTPStatus = .ok) throws(HTTPFieldError) -> Response
    {
        var response = Response.json(status) { json in record.write(to: &json) }
        try response.headers.append("etag", record.entityTag)
        return response
    }
}
