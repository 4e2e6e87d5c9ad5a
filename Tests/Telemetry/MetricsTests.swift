import Glibc
import Synchronization
import Telemetry
import Testing

@Suite("Metrics")
struct MetricsTests {
    private func text(_ registry: MetricsRegistry) -> String {
        String(decoding: registry.prometheusText(), as: UTF8.self)
    }

    @Test("the text has HELP, TYPE, escaped labels, and families and series in order")
    func exposition() {
        let registry = MetricsRegistry(loops: 2)
        let requests = registry.counterFamily(
            "b_total", help: "back\\slash\nline", labelNames: ["path", "code"])
        requests.series("/\"q\"\\\n", "200").increment(by: 3, loop: 0)
        requests.series("/", "500").increment(loop: 1)
        registry.gauge("a_open", help: "open").add(5, loop: 0)
        registry.gauge("a_open", help: "open").add(-2, loop: 1)
        registry.gauge("c_ratio", help: "r") { 0.25 }
        #expect(
            text(registry) == """
                # HELP a_open open
                # TYPE a_open gauge
                a_open 3
                # HELP b_total back\\\\slash\\nline
                # TYPE b_total counter
                b_total{path="/",code="500"} 1
                b_total{path="/\\"q\\"\\\\\\n",code="200"} 3
                # HELP c_ratio r
                # TYPE c_ratio gauge
                c_ratio 0.25

                """)
    }

    @Test("a histogram is cumulative, its bounds inclusive, its sum in the unit shown")
    func histogram() {
        let registry = MetricsRegistry(loops: 1)
        let histogram = registry.histogram("t_seconds", help: "t", bounds: [0.001, 0.5])
        histogram.observe(1_000_000, loop: 0)
        histogram.observe(1_000_001, loop: 0)
        histogram.observe(2_000_000_000)
        #expect(
            text(registry) == """
                # HELP t_seconds t
                # TYPE t_seconds histogram
                t_seconds_bucket{le="0.001"} 1
                t_seconds_bucket{le="0.5"} 2
                t_seconds_bucket{le="+Inf"} 3
                t_seconds_sum 2.002000001
                t_seconds_count 3

                """)
    }

    @Test("label values beyond the limit share one overflow series")
    func cardinality() {
        let registry = MetricsRegistry(loops: 1)
        let family = registry.counterFamily("x_total", help: "x", labelNames: ["who"], maxSeries: 2)
        for index in 0..<10 { family.series("user-\(index)").increment() }
        #expect(family.series("user-0").value == 1)
        #expect(family.series("user-7").value == 8)
        #expect(text(registry).contains("x_total{who=\"overflow\"} 8\n"))
    }

    @Test("no count is lost when threads share or exceed the shards")
    func concurrency() async {
        let registry = MetricsRegistry(loops: 2)
        let counter = registry.counter("n_total", help: "n")
        await withTaskGroup(of: Void.self) { group in
            for loop in -1..<5 {
                group.addTask { for _ in 0..<10_000 { counter.increment(loop: loop) } }
            }
        }
        #expect(counter.value == 60_000)
    }

    @Test("requests are counted by method and status, unknown ones without new series")
    func http() {
        let registry = MetricsRegistry(loops: 1)
        let metrics = HTTPMetrics(registry: registry, loops: 1)
        metrics.record(method: MethodLabel("GET"), status: 200, durationNs: 2_000_000, loop: 0)
        metrics.record(method: MethodLabel("GET"), status: 200, durationNs: 2_000_000, loop: -1)
        metrics.record(method: MethodLabel("get"), status: 42, durationNs: 1, loop: 0)
        metrics.connections.add(1, loop: 0)
        let text = text(registry)
        #expect(text.contains("http_requests_total{method=\"GET\",status=\"200\"} 2\n"))
        #expect(text.contains("http_requests_total{method=\"other\",status=\"599\"} 1\n"))
        #expect(text.contains("http_request_duration_seconds_count 3\n"))
        #expect(text.contains("http_connections 1\n"))
        #expect(metrics.requestCount == 3)
    }

    @Test("the process tells its CPU, memory, descriptors and start")
    func process() throws {
        let registry = MetricsRegistry(loops: 1)
        ProcessMetrics.register(in: registry, version: "1.2", mode: "api", nodeID: "n")
        let text = text(registry)
        func value(_ name: String) throws -> Double {
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix(name + " ") })
            return try #require(Double(line.dropFirst(name.utf8.count + 1)))
        }
        #expect(try value("process_cpu_seconds_total") > 0)
        #expect(try value("process_resident_memory_bytes") > 1_000_000)
        #expect(try value("process_open_fds") >= 3)
        let start = try value("process_start_time_seconds")
        #expect(abs(Double(time(nil)) - start) < 3600)
        #expect(text.contains("trivet_build_info{version=\"1.2\",mode=\"api\",node_id=\"n\"} 1\n"))
    }
}
