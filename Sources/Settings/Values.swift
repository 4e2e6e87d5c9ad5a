import Telemetry

/// Where a server listens or is reached.
package enum Address: Sendable, Equatable, CustomStringConvertible {
    /// A host name or numeric address (IPv6 without brackets), and a port; 0 lets the kernel choose.
    case tcp(host: String, port: Int)
    /// The path of a Unix socket.
    case unix(path: String)

    /// Parses `host:port`, `[::1]:port`, `:port` and a bare `port` (both on all addresses), and `unix:/path`.
    package init?(parsing text: String) {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst(5))
            guard path.hasPrefix("/"), path.utf8.count <= 107 else { return nil }
            self = .unix(path: path)
            return
        }
        var host = "0.0.0.0"
        var digits = text[...]
        if let colon = text.lastIndex(of: ":") {
            digits = text[text.index(after: colon)...]
            let name = text[..<colon]
            if name.hasPrefix("["), name.hasSuffix("]"), name.dropFirst().dropLast().contains(":") {
                host = String(name.dropFirst().dropLast())
            } else if name.contains(":") || name.contains("[") || name.contains("]") {
                return nil
            } else if !name.isEmpty {
                host = String(name)
            }
        }
        guard let port = Address.port(digits), Address.isHost(host) else { return nil }
        self = .tcp(host: host, port: port)
    }

    /// The port, nil for a Unix socket.
    package var port: Int? {
        guard case .tcp(_, let port) = self else { return nil }
        return port
    }

    /// True when it stands for every address of the machine.
    package var isWildcard: Bool {
        guard case .tcp(let host, _) = self else { return false }
        return host == "0.0.0.0" || host == "::" || host == "*"
    }

    package var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }

    static func port(_ digits: Substring) -> Int? {
        guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (48...57).contains($0) }),
            let port = Int(digits), port <= 65535
        else { return nil }
        return port
    }

    static func isHost(_ host: String) -> Bool {
        !host.isEmpty && host.utf8.count <= 253
            && host.utf8.allSatisfy { byte in
                switch byte {
                case 48...57, 65...90, 97...122, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                    UInt8(ascii: ":"),
                    UInt8(ascii: "%"), UInt8(ascii: "*"):
                    true
                default: false
                }
            }
    }
}

/// The URL of a server, with the secrets that it carries kept out of every textual form.
package struct ServiceURL: Sendable, Equatable, CustomStringConvertible {
    /// The whole URL, password included.
    package let url: Redacted<String>

    /// Wraps a URL.
    package init(_ url: String) { self.url = Redacted(url) }

    package var description: String { Redaction.withoutURLSecrets(url.secret) }
}

/// One address of `UPSTREAMS`.
package struct UpstreamSetting: Sendable, Equatable, CustomStringConvertible {
    package var host: String
    package var port: Int
    /// Its share of the traffic beside the others', 1…1000.
    package var weight: Int
    /// True when it is only used while no other is healthy.
    package var isBackup: Bool
    /// Requests that it gets at the same time at most; nil: as MAX_CONNECTIONS says.
    package var maxConnections: Int?
    /// The part of the traffic that it belongs to; nil: as GROUP says.
    package var group: String?

    /// An upstream; see the fields.
    package init(
        host: String, port: Int, weight: Int = 1, isBackup: Bool = false, maxConnections: Int? = nil,
        group: String? = nil
    ) {
        self.host = host
        self.port = port
        self.weight = weight
        self.isBackup = isBackup
        self.maxConnections = maxConnections
        self.group = group
    }

    /// Parses `host:port[ weight=N][ max=N][ group=NAME][ backup]`.
    init?(parsing text: Substring) {
        let words = text.split(separator: " ")
        guard let first = words.first, first.contains(":"),
            case .tcp(let host, let port)? = Address(parsing: String(first)),
            port > 0, host != "0.0.0.0"
        else { return nil }
        self.init(host: host, port: port)
        for word in words.dropFirst() {
            if word == "backup" {
                isBackup = true
            } else if word.hasPrefix("weight="), let value = Int(word.dropFirst(7)),
                (1...1000).contains(value)
            {
                weight = value
            } else if word.hasPrefix("max="), let value = Int(word.dropFirst(4)),
                (1...1_000_000).contains(value)
            {
                maxConnections = value
            } else if word.hasPrefix("group="), NodeConfiguration.isName(String(word.dropFirst(6))) {
                group = String(word.dropFirst(6))
            } else {
                return nil
            }
        }
    }

    package var description: String {
        Address.tcp(host: host, port: port).description + (weight == 1 ? "" : " weight=\(weight)")
            + (maxConnections.map { " max=\($0)" } ?? "")
            + (group.map { " group=\($0)" } ?? "") + (isBackup ? " backup" : "")
    }
}

/// How a balancer finds its upstreams. Several ways may be combined.
package struct Discovery: Sendable, Equatable, CustomStringConvertible {
    /// A DNS name whose addresses are the upstreams.
    package struct DNSName: Sendable, Equatable {
        package let name: String
        package let port: Int
    }

    /// Use the nodes that registered in Redis.
    package var registry = false
    /// Use `UPSTREAMS`.
    package var fixed = false
    /// Use the addresses of these names.
    package var dns: [DNSName] = []

    /// No way at all.
    package init(registry: Bool = false, fixed: Bool = false, dns: [DNSName] = []) {
        self.registry = registry
        self.fixed = fixed
        self.dns = dns
    }

    /// Parses `registry`, `static`, `dns:NAME:PORT`, combined with commas.
    init?(parsing text: String) {
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let word = part.drop { $0 == " " }
            let pieces = word.split(separator: ":", omittingEmptySubsequences: false)
            if word == "registry" {
                registry = true
            } else if word == "static" {
                fixed = true
            } else if pieces.count == 3, pieces[0] == "dns", Address.isHost(String(pieces[1])),
                let port = Address.port(pieces[2]), port > 0
            {
                dns.append(DNSName(name: String(pieces[1]), port: port))
            } else {
                return nil
            }
        }
    }

    package var description: String {
        ((registry ? ["registry"] : []) + (fixed ? ["static"] : []) + dns.map { "dns:\($0.name):\($0.port)" })
            .joined(separator: ",")
    }
}

/// How the balancer chooses among healthy upstreams.
package enum BalancingAlgorithm: String, Sendable, CaseIterable {
    case roundRobin = "round_robin"
    case leastConnections = "least_connections"
    /// The less loaded of two that are drawn by weight.
    case random
    /// The same client, the same upstream.
    case ipHash = "ip_hash"
    /// The quicker of two that are drawn by weight.
    case ewma
}

/// Whether an api node brings the database's schema up to date when it starts.
package enum MigrationPolicy: String, Sendable, CaseIterable {
    /// Under an advisory lock, by whoever comes first.
    case auto
    /// Only `trivet migrate` does.
    case off
}

enum ValueParsing {
    static func boolean(_ text: String) -> Bool? {
        switch text.lowercased() {
        case "on", "true", "yes", "1": true
        case "off", "false", "no", "0": false
        default: nil
        }
    }

    /// Milliseconds of `500ms`, `30s`, `5m`, `12h`, `14d` or a bare number of seconds; fractions are allowed.
    static func durationMs(_ text: String) -> Int? {
        let units: [(String, Double)] = [
            ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
        ]
        let unit = units.first { text.hasSuffix($0.0) } ?? ("", 1000)
        return scaled(text.dropLast(unit.0.count), by: unit.1)
    }

    /// Bytes of `512`, `64k`, `10m`, `1g` (powers of 1024; `b` and `ib` may follow, case does not matter).
    static func bytes(_ text: String) -> Int? {
        var digits = text.lowercased()[...]
        for suffix in ["ib", "b"] where digits.hasSuffix(suffix) {
            digits = digits.dropLast(suffix.count)
            break
        }
        let units: [(Character, Double)] = [("k", 1024), ("m", 1_048_576), ("g", 1_073_741_824)]
        guard let unit = units.first(where: { digits.last == $0.0 }) else { return scaled(digits, by: 1) }
        return scaled(digits.dropLast(), by: unit.1)
    }

    private static func scaled(_ digits: Substring, by factor: Double) -> Int? {
        guard digits.utf8.first.map({ (48...57).contains($0) }) == true,
            digits.utf8.allSatisfy({ (48...57).contains($0) || $0 == UInt8(ascii: ".") }),
            let number = Double(digits)
        else { return nil }
        let value = (number * factor).rounded()
        return value < 9e15 ? Int(value) : nil
    }

    /// `ms` as people write it: the largest unit that divides it.
    static func durationText(_ ms: Int) -> String {
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
        where ms != 0 && ms % size == 0 { return "\(ms / size)\(unit)" }
        return "\(ms)ms"
    }
}
