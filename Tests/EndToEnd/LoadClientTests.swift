import TestSupport
import Testing

/// The load client is the judge of everything here, so it is judged first: does it see each kind of loss, and only losses?
extension EndToEnd {
    @Suite struct LoadClientTests {
        private static func load(
            _ target: LoadTarget, requests: Int = 400, during: (LoadRun) throws -> Void = { _ in }
        ) throws -> LoadReport {
            var plan = LoadPlan(target, requestsPerSecond: 400) { index in
                index % 4 == 3
                    ? LoadRequest("POST", "/echo", body: Array("{\"n\":\(index)}".utf8), label: "POST")
                    : LoadRequest("GET", "/\(index)", label: "GET")
            }
            plan.connections = 8
            plan.timeoutMs = 15_000
            let run = try LoadRun(plan)
            try during(run)
            try eventuallyBlocking(within: 20, "\(requests) requests") {
                run.endedCount >= requests
            }
            return try run.finish()
        }

        @Test("a server that answers everything loses nothing, and the report says how much that was")
        func everythingAnswered() throws {
            let server = try TestHTTPServer { _, request in .response(status: 200, body: request.target) }
            let report = try Self.load(try LoadTarget(port: server.port))
            print(report)
            #expect(report.failures.isEmpty)
            #expect(report.sent >= 400)
            #expect(report.sent == server.requests.count)
            #expect(report.records.filter { $0.isFirstOnConnection }.count >= report.sent / 8)
            #expect(report.reconnects.afterClose == 0)
        }

        @Test("every 50th response cut in the middle is one failure each, in the middle of the response")
        func cutResponses() throws {
            let server = try TestHTTPServer { index, _ in
                index % 50 == 49 ? .cut : .response(status: 200, body: "fine")
            }
            let report = try Self.load(try LoadTarget(port: server.port))
            print(report)
            #expect(report.failures.count == server.requests.count / 50)
            #expect(report.sent == server.requests.count)
            for failure in report.failures {
                guard case .failed(let why) = failure.fate else {
                    Issue.record("\(failure)")
                    continue
                }
                #expect(why.place == .receiving)
                #expect(why.sentBytes > 0 && why.receivedBytes > 0)
            }
        }

        @Test("every 50th request left without an answer is one failure each, and is not sent again")
        func unansweredRequests() throws {
            let server = try TestHTTPServer { index, _ in
                index % 50 == 49 ? .nothing : .response(status: 200, body: "fine")
            }
            let report = try Self.load(try LoadTarget(port: server.port))
            #expect(report.failures.count == server.requests.count / 50)
            #expect(report.sent == server.requests.count)
            for failure in report.failures {
                guard case .failed(let why) = failure.fate else {
                    Issue.record("\(failure)")
                    continue
                }
                #expect(why.place == .waiting)
            }
        }

        @Test("a connection closed between two requests, announced or not, is opened again and is no failure")
        func closedBetweenRequests() throws {
            let server = try TestHTTPServer { index, _ in
                switch index % 20 {
                case 9: .lastResponse(status: 200, body: "last")
                case 19: .responseThenClose(status: 200, body: "gone")
                default: .response(status: 200, body: "fine")
                }
            }
            let report = try Self.load(try LoadTarget(port: server.port))
            #expect(report.failures.isEmpty, "\(report)")
            #expect(report.reconnects.afterClose > 0)
        }

        @Test("a wrong status and a wrong body are failures with their complaint")
        func wrongResponses() throws {
            let server = try TestHTTPServer { index, _ in
                .response(status: index == 10 ? 503 : 200, body: index == 20 ? "yours?" : "mine")
            }
            var plan = LoadPlan(try LoadTarget(port: server.port), requestsPerSecond: 200) { _ in
                LoadRequest("GET", "/", complaint: { $0.status == 200 && $0.text == "mine" ? nil : $0.text })
            }
            plan.connections = 2
            let run = try LoadRun(plan)
            try run.proceed(60)
            let report = try run.finish()
            #expect(report.failures.map(\.status) == [503, 200])
            #expect(report.failures.map(\.trouble) == ["mine", "yours?"])
        }

        @Test(
            "a stall of 300 ms is felt by the requests that were due meanwhile, not only by the one that met it"
        )
        func stall() throws {
            let server = try TestHTTPServer { index, _ in
                if index == 100 { blockThread(ms: 300) }
                return .response(status: 200, body: "")
            }
            // One connection: whoever is due during the stall waits for it.
            var plan = LoadPlan(try LoadTarget(port: server.port), requestsPerSecond: 200) { _ in
                LoadRequest("GET", "/")
            }
            plan.connections = 1
            plan.newConnectionEvery = 0
            let run = try LoadRun(plan)
            try run.proceed(200)
            let report = try run.finish()
            #expect(report.failures.isEmpty)
            #expect(report.records.filter { $0.latencyNs > 100_000_000 }.count >= 30, "\(report)")
        }

        @Test(
            "nginx: a reload of its workers under load loses nothing, the SIGKILL of a worker is seen",
            .enabled(if: TestNginx.isInstalled))
        func nginx() throws {
            let certificate = try TestCertificate()
            let nginx = try TestNginx(certificate)
            let target = try LoadTarget(port: nginx.port, trusting: certificate)
            let reloaded = try Self.load(target, requests: 800) { run in
                for round in 1...3 {
                    try run.proceed(100)
                    run.mark("reload \(round)")
                    try nginx.reload()
                }
            }
            print("nginx, three reloads: \(reloaded)")
            #expect(reloaded.failures.filter { !Self.isIdleRace($0) }.isEmpty)

            let killed = try Self.load(target, requests: 400) { run in
                try run.proceed(50)
                run.mark("SIGKILL of the workers")
                try nginx.killWorkers()
            }
            print("nginx, workers killed: \(killed)")
            #expect(killed.reconnects.afterBreak > 0 || !killed.failures.isEmpty)
        }

        /// nginx closes idle connections at a reload; a request that was on its way at that moment is lost.
        private static func isIdleRace(_ record: LoadRecord) -> Bool {
            guard case .failed(let why) = record.fate else { return false }
            return why.place == .waiting && !record.isFirstOnConnection
        }
    }
}
