import Glibc

/// The metrics that every Prometheus client offers about its own process, read from /proc.
package enum ProcessMetrics {
    /// Adds them, and `trivet_build_info`, to `registry`.
    package static func register(in registry: MetricsRegistry, version: String, mode: String, nodeID: String)
    {
        let start = startTimeSeconds()
        registry.counters(
            "process_cpu_seconds_total", help: "Total user and system CPU time spent in seconds."
        ) { [([], cpuSeconds())] }
        registry.gauge("process_resident_memory_bytes", help: "Resident memory size in bytes.") {
            residentBytes()
        }
        registry.gauge("process_open_fds", help: "Number of open file descriptors.") { openDescriptors() }
        registry.gauge(
            "process_start_time_seconds", help: "Start time of the process since the Unix epoch in seconds."
        ) {
            start
        }
        registry.gauges(
            "trivet_build_info", help: "What runs here; the value is always 1.",
            labelNames: ["version", "mode", "node_id"]
        ) { [([version, mode, nodeID], 1)] }
    }

    /// CPU time of this process so far, user and system.
    package static func cpuSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1_000_000_000
    }

    /// Memory of this process that is in RAM.
    package static func residentBytes() -> Double {
        let fields = readSmallFile("/proc/self/statm").split(separator: " ")
        guard fields.count > 1, let pages = Int(fields[1]) else { return 0 }
        return Double(pages * Int(sysconf(Int32(_SC_PAGESIZE))))
    }

    static func openDescriptors() -> Double {
        guard let directory = opendir("/proc/self/fd") else { return 0 }
        defer { closedir(directory) }
        var count = 0
        while readdir(directory) != nil { count += 1 }
        // Without ".", ".." and the descriptor of this listing.
        return Double(max(count - 3, 0))
    }

    static func startTimeSeconds() -> Double {
        let stat = readSmallFile("/proc/self/stat")
        let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
        // The name, in parentheses, may hold spaces; start time is field 22, the 20th after it (proc(5)).
        guard let close = stat.lastIndex(of: ")"), ticksPerSecond > 0 else { return 0 }
        let fields = stat[stat.index(after: close)...].split(separator: " ")
        guard fields.count > 19, let ticks = Double(fields[19]) else { return 0 }
        for line in readSmallFile("/proc/stat").split(separator: "\n") where line.hasPrefix("btime ") {
            return (Double(line.dropFirst(6)) ?? 0) + ticks / ticksPerSecond
        }
        return 0
    }

    private static func readSmallFile(_ path: String) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while content.count < 1 << 18 {
            let count = read(descriptor, &chunk, chunk.count)
            if count <= 0 { break }
            content += chunk[..<count]
        }
        return String(decoding: content, as: UTF8.self)
    }
}
