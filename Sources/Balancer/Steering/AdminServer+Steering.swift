import Bytes
import Cluster
import HTTPServer
import HTTPWire
import Reactor
import Settings
import Synchronization

/// The routes that change something. Each answers with what holds now, as `/status` shows it.
extension AdminServer {
    static func addSteering(_ routes: inout RouterBuilder, _ node: BalancerNode, _ access: AdminAccess) {
        func on(
            _ method: HTTPMethod, _ pattern: String,
            _ handle: @escaping @Sendable (Request, JSONObject) async throws -> Void
        ) {
            routes.on(method, pattern) { request in
                try access.check(request)
                let body = try await request.body.collect(limitBytes: 64 * 1024)
                let json = body.isEmpty ? JSONObject() : try JSONParser.parse(body).objectValue
                guard let json else { throw HTTPError(.badRequest, "The body must be a JSON object.") }
                try await handle(request, json)
                return status(node)
            }
        }
        on(.post, "/nodes/:id/drain") { request, _ in
            let id = try known(request.parameter("id"), node)
            try await node.steer(named(request)) { $0.steer(id) { $0.isDrained = true } }
        }
        on(.post, "/nodes/:id/undrain") { request, _ in
            let id = request.parameter("id")
            try await node.steer(named(request)) { $0.steer(id) { $0.isDrained = false } }
        }
        on(.put, "/nodes/:id/weight") { request, json in
            let id = try known(request.parameter("id"), node)
            let weight = json["weight"] ?? .null
            guard weight.isNull || weight.intValue.map({ (1...1000).contains($0) }) == true else {
                throw HTTPError(
                    .badRequest,
                    "weight must be 1 to 1000, or null for the node's own; to take it out, drain it.")
            }
            try await node.steer(named(request)) { $0.steer(id) { $0.weight = weight.intValue } }
        }
        on(.put, "/groups") { request, json in
            let weights = try groupWeights(json)
            try await node.steer(named(request)) { $0.groups = weights }
        }
        on(.post, "/switch") { request, json in
            guard let name = json["group"]?.stringValue else {
                throw HTTPError(.badRequest, "The body must be {\"group\": NAME}.")
            }
            let groups = Set(node.table.all.map(\.group))
            guard groups.contains(name) else {
                throw HTTPError(
                    .notFound, "No node is in the group \(name); there are \(list(groups)).",
                    code: "no_such_group")
            }
            let isForced = json["force"]?.boolValue == true
            let nowNs = monotonicNs()
            guard
                isForced
                    || node.table.all.contains(where: { $0.group == name && $0.isAvailable(nowNs: nowNs) })
            else {
                throw HTTPError(
                    .conflict,
                    "No node of the group \(name) is available now; force (ctl: --force) switches all the same.",
                    code: "group_unavailable")
            }
            try await node.steer(named(request)) { record in
                for group in groups.union(record.groups.keys) { record.groups[group] = 0 }
                record.groups[name] = 100
            }
        }
        on(.put, "/maintenance") { request, json in
            guard let isOn = json["on"]?.boolValue else {
                throw HTTPError(.badRequest, "The body must be {\"on\": true} or {\"on\": false}.")
            }
            try await node.steer(named(request)) { $0.isMaintenance = isOn }
        }
        on(.post, "/pause") { request, json in
            let ms = json["timeout_ms"]?.intValue ?? 30_000
            guard (1...pauseLimitMs).contains(ms) else {
                throw HTTPError(.badRequest, "timeout_ms must be 1 to \(pauseLimitMs).")
            }
            try await node.steer(named(request)) { $0.pausedUntilMs = unixMs() + ms }
        }
        on(.post, "/resume") { request, _ in try await node.steer(named(request)) { $0.pausedUntilMs = 0 } }
    }

    private static func named(_ request: Request) -> String { "\(request.methodName) \(request.path)" }

    // Longer than most clients wait.
    private static let pauseLimitMs = 300_000

    private static func known(_ id: String, _ node: BalancerNode) throws(HTTPError) -> String {
        let ids = node.table.all.map(\.id)
        guard ids.contains(id) else {
            throw HTTPError(
                .notFound, "No upstream is called \(id); there are \(list(ids)).", code: "no_such_node")
        }
        return id
    }

    private static func groupWeights(_ json: JSONObject) throws(HTTPError) -> [String: Int] {
        var weights: [String: Int] = [:]
        for member in json.members {
            guard let weight = member.value.intValue, (0...SteeringRecord.weightLimit).contains(weight) else {
                throw HTTPError(
                    .badRequest, "The weight of \(member.key) must be 0 to \(SteeringRecord.weightLimit).")
            }
            weights[member.key] = weight
        }
        guard weights.count <= SteeringRecord.groupLimit else {
            throw HTTPError(
                .badRequest, "No more than \(SteeringRecord.groupLimit) groups can be told apart.")
        }
        guard weights.isEmpty || weights.values.contains(where: { $0 > 0 }) else {
            throw HTTPError(
                .badRequest, "One group must have a weight above 0; to stop all traffic, use maintenance.")
        }
        return weights
    }

    private static func list(_ names: some Sequence<String>) -> String {
        let names = names.sorted()
        return names.isEmpty
            ? "none" : names.prefix(20).joined(separator: ", ") + (names.count > 20 ? ", …" : "")
    }
}
