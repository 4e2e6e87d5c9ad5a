import Bytes
import HTTPServer
import HTTPWire
import Jobs

extension APIService {
    func addJobRoutes(_ routes: inout RouterBuilder) {
        routes.post(
            "/v1/jobs",
            authenticated { request, stores, caller in
                try await Self.enqueue(request, stores, caller)
            })
        routes.get(
            "/v1/jobs/:id",
            authenticated { request, stores, caller in
                let job = try await stores.jobs.job(id: try request.identifier("id"))
                guard let job, job.owner == caller.accountID || caller.isAdmin else { throw Answers.notFound }
                return .json { json in job.write(to: &json) }
            })
    }

    /// `{task, payload?, max_attempts?, delay_ms?, timeout_ms?}` → 202 with the job and where to ask for it.
    private static func enqueue(_ request: Request, _ stores: RequestStores, _ caller: Caller) async throws
        -> Response
    {
        let body = try await JSONBody.read(request)
        var reader = try JSONObjectReader(body.value)
        let name = reader.requiredText("task")
        let payload = reader.member("payload") ?? .object([:])
        var new = NewJob(id: NewID.make(), task: name, payload: payload.text, owner: caller.accountID)
        new.maxAttempts = reader.integer("max_attempts", in: 1...100) ?? new.maxAttempts
        new.delayMs = reader.integer("delay_ms", in: 0...365 * 86_400_000) ?? 0
        new.timeoutMs = reader.integer("timeout_ms", in: 1000...3_600_000) ?? 0
        if let task = BuiltInTask(rawValue: name) {
            do throws(InvalidMembers) { try task.validate(payload) } catch {
                reader.refuse(error.under("/payload"))
            }
        } else if !name.isEmpty {
            let known = BuiltInTask.allCases.map(\.rawValue).joined(separator: ", ")
            reader.refuse("task", "is not known; known are \(known)")
        }
        try reader.finish()
        if let key = try request.idempotencyKey(for: body.bytes) {
            new.idempotency = JobIdempotency(
                key: caller.accountID + ":" + Hex.encode(key.keyHash),
                fingerprint: Hex.encode(key.fingerprint))
        }
        return try await answer(try await stores.jobs.enqueue(new), new, stores)
    }

    private static func answer(
        _ outcome: EnqueueOutcome, _ new: NewJob, _ stores: RequestStores
    ) async throws -> Response {
        let job: Job
        switch outcome {
        case .created(_, let createdAtMs):
            job = Job(queued: new, createdAtMs: createdAtMs)
        case .existing(let id):
            guard let known = try await stores.jobs.job(id: id) else { throw Answers.notFound }
            job = known
        case .conflict:
            throw Answers.idempotencyConflict
        }
        var response = Response.json(.accepted) { json in job.write(to: &json) }
        try response.headers.append("location", "/v1/jobs/\(job.id)")
        return response
    }
}

extension Job {
    func write(to json: inout JSONWriter) {
        json.beginObject()
        json.member("id", id)
        json.member("task", task)
        json.member("state", state.rawValue)
        json.member("attempts", attempts)
        json.member("max_attempts", maxAttempts)
        json.key("payload")
        json.raw(payload.utf8Span.span.bytes)
        json.key("result")
        if let result { json.raw(result.utf8Span.span.bytes) } else { json.null() }
        json.member("error", error)
        json.member("owner", owner)
        json.member("created_at", RFC3339.format(unixMs: createdAtMs))
        json.member("updated_at", RFC3339.format(unixMs: updatedAtMs))
        json.member("run_at", RFC3339.format(unixMs: runAtMs))
        json.member("started_at", startedAtMs.map { RFC3339.format(unixMs: $0) })
        json.member("finished_at", finishedAtMs.map { RFC3339.format(unixMs: $0) })
        json.endObject()
    }
}
