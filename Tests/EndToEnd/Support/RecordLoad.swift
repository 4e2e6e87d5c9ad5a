import Bytes
import TestSupport
import Testing

/// What a person's application does, at a steady rate through the balancer: asks who it is, lists, reads one record, stores one.
/// Every answer is looked into, every acknowledged record is looked for afterwards.
struct RecordLoad {
    /// What debug builds on two cores carry with ease.
    static let requestsPerSecond = 160.0

    let run: LoadRun
    private let stack: Stack
    private let collection: String

    /// Logs in, and starts.
    init(_ stack: Stack, collection: String) throws {
        self.stack = stack
        self.collection = collection
        let (client, email) = try stack.loggedIn()
        let path = "/v1/collections/\(collection)/records"
        let seed = try client.send("POST", path, json: .object(["n": .int(-1)])).expect(201)
        let one = "\(path)/\(seed.json["id"]?.stringValue ?? "")"
        let headers = client.authorization
        let plan = LoadPlan(try stack.throughBalancer(), requestsPerSecond: Self.requestsPerSecond) { index in
            switch index % 4 {
            case 0:
                return LoadRequest("GET", "/v1/me", headers: headers, label: "GET me") {
                    Self.complaint($0, 200) { $0["email"]?.stringValue == email }
                }
            case 1:
                return LoadRequest("GET", "\(path)?limit=10", headers: headers, label: "GET list") {
                    Self.complaint($0, 200) { $0["items"]?.arrayValue?.isEmpty == false }
                }
            case 2:
                return LoadRequest("GET", one, headers: headers, label: "GET record") {
                    Self.complaint($0, 200) { $0["data"]?["n"]?.intValue == -1 }
                }
            default:
                return LoadRequest(
                    "POST", path, headers: headers + [("Content-Type", "application/json")],
                    body: Array("{\"n\":\(index)}".utf8), label: "POST record"
                ) {
                    Self.complaint($0, 201) { $0["data"]?["n"]?.intValue == index }
                }
            }
        }
        run = try LoadRun(plan)
    }

    private static func complaint(
        _ response: LoadResponse, _ status: Int, _ isRight: (JSONValue) -> Bool
    ) -> String? {
        guard response.status == status else { return "\(response.status): \(response.text.prefix(300))" }
        guard let json = try? JSONParser.parse(response.body), isRight(json) else {
            return "somebody else's answer: \(response.text.prefix(300))"
        }
        return nil
    }

    /// Stops the load, prints what became of it, and compares with what PostgreSQL has.
    func finish(_ title: String) throws -> LoadReport {
        let report = try run.finish()
        var stored: [Int: Int] = [:]
        let rows = try stack.sql(
            "SELECT data->>'n', count(*) FROM records WHERE collection = '\(collection)' GROUP BY 1")
        for row in rows.split(separator: "\n") {
            let cells = row.split(separator: "|").compactMap { Int($0) }
            if cells.count == 2, cells[0] >= 0 { stored[cells[0]] = cells[1] }
        }
        let posts = report.records.filter { $0.method == "POST" }
        let acknowledged = posts.filter(\.isOK).map(\.index)
        let lost = acknowledged.filter { stored[$0] == nil }
        let doubled = stored.filter { $0.value > 1 }.map(\.key)
        let unknown = Set(stored.keys).subtracting(posts.map(\.index))
        print(
            "\(title): \(report)\n  acknowledged POSTs: \(acknowledged.count), of them lost: \(lost.count); "
                + "stored twice: \(doubled.count); stored without an acknowledgement: "
                + "\(stored.count - (acknowledged.count - lost.count))")
        #expect(acknowledged.count > 0)
        #expect(lost.isEmpty, "acknowledged, and not in the database: \(lost)")
        #expect(doubled.isEmpty, "stored more than once: \(doubled)")
        #expect(unknown.isEmpty, "stored, and never sent: \(unknown)")
        return report
    }
}
