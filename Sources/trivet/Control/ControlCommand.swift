import ArgumentParser
import Bytes
import Glibc

/// `trivet ctl`: sees and steers a running balancer, and with it all balancers of the cluster.
struct ControlCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ctl",
        abstract: "See and steer the balancers of a cluster.",
        discussion: """
            Speaks to one balancer, over its Unix socket (ADMIN_SOCKET) or its admin address. What is changed holds for all \
            balancers that share its Redis and CLUSTER, and for those that start later.
            """,
        subcommands: [
            Status.self, Top.self, Drain.self, Undrain.self, Weight.self, Switch.self, Pause.self,
            Resume.self,
            Maintenance.self,
        ])

    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show groups and upstreams: state, load, totals, latency of the last half minute.")
        @OptionGroup var target: ControlTarget

        func run() throws { target.show(try target.send("GET", "/status")) }
    }

    struct Top: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The status again and again, with rates; Ctrl-C ends it.")
        @OptionGroup var target: ControlTarget

        @Option(help: "Seconds between two looks.")
        var interval: Double = 1

        @Option(help: "How many looks; 0: until Ctrl-C.")
        var count = 0

        func validate() throws {
            guard interval >= 0.1, interval <= 3600, count >= 0 else {
                throw ValidationError("--interval must be 0.1 to 3600 seconds, --count 0 or more")
            }
        }

        func run() throws {
            var before: JSONValue?
            var shown = 0
            while true {
                let status = try target.send("GET", "/status")
                if target.wantsJSON {
                    StandardOutput.write(status.text)
                } else {
                    let text = StatusTable.text(status, before: before.map { ($0, interval) })
                    StandardOutput.write((StandardOutput.isTerminal ? "\u{1B}[H\u{1B}[2J" : "") + text)
                }
                before = status
                shown += 1
                if shown == count { return }
                usleep(useconds_t(interval * 1_000_000))
            }
        }
    }

    struct Drain: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Send a node no new requests, from any balancer; those in flight end.")
        @OptionGroup var target: ControlTarget
        @Argument(help: "The node's id, as status shows it.") var node: String

        func run() throws { target.show(try target.send("POST", "/nodes/\(escaped(node))/drain")) }
    }

    struct Undrain: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take a drained node back.")
        @OptionGroup var target: ControlTarget
        @Argument(help: "The node's id.") var node: String

        func run() throws { target.show(try target.send("POST", "/nodes/\(escaped(node))/undrain")) }
    }

    struct Weight: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Set the weight of a node.")
        @OptionGroup var target: ControlTarget
        @Argument(help: "The node's id.") var node: String
        @Argument(help: "1 to 1000, or 'own' for the weight it was discovered with.") var weight: String

        func run() throws {
            guard weight == "own" || Int64(weight) != nil else {
                throw ValidationError("'\(weight.prefix(40))' is no weight; expected 1 to 1000, or own")
            }
            let value = Int64(weight).map { JSONValue.int($0) } ?? .null
            target.show(
                try target.send("PUT", "/nodes/\(escaped(node))/weight", .object(["weight": value])))
        }
    }

    struct Switch: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Send all traffic to one group, or share it among groups.",
            discussion: """
                trivet ctl switch green              blue-green: all to green, at once
                trivet ctl switch blue=95 green=5    canary: 5 % of the clients, and always the same ones
                trivet ctl switch --off              no shares: all groups serve alike
                """)
        @OptionGroup var target: ControlTarget
        @Argument(help: "A group, or groups with weights.") var groups: [String] = []
        @Flag(help: "All groups serve alike.") var off = false
        @Flag(help: "Switch to a group of which no node is available.") var force = false

        func run() throws { target.show(try target.send(request().method, request().path, request().body)) }

        private func request() throws -> (method: String, path: String, body: JSONValue) {
            if off, groups.isEmpty { return ("PUT", "/groups", .object([:])) }
            if groups.count == 1, !groups[0].contains("="), !off {
                return ("POST", "/switch", .object(["group": .string(groups[0]), "force": .bool(force)]))
            }
            var weights = JSONObject()
            for group in groups {
                let parts = group.split(separator: "=", omittingEmptySubsequences: false)
                guard parts.count == 2, !parts[0].isEmpty, let weight = Int64(parts[1]),
                    weights[String(parts[0])] == nil
                else {
                    throw ValidationError(
                        "'\(group.prefix(80))' is not accepted; expected GROUP=WEIGHT, once each")
                }
                weights[String(parts[0])] = .int(weight)
            }
            guard !groups.isEmpty, !off else {
                throw ValidationError("Say a group, GROUP=WEIGHT …, or --off alone")
            }
            return ("PUT", "/groups", .object(weights))
        }
    }

    struct Pause: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Hold new requests for a while; those in flight go on.",
            discussion:
                "When the time is over, or at 'resume', they go on. QUEUE_LIMIT of them wait; others get 503."
        )
        @OptionGroup var target: ControlTarget
        @Argument(help: "For how many seconds at most: 0.001 to 300.") var seconds: Double = 30

        func run() throws {
            let ms = Int64((seconds * 1000).rounded())
            target.show(try target.send("POST", "/pause", .object(["timeout_ms": .int(ms)])))
        }

        func validate() throws {
            guard seconds >= 0.001, seconds <= 300 else { throw ValidationError("Say 0.001 to 300 seconds") }
        }
    }

    struct Resume: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "End a pause.")
        @OptionGroup var target: ControlTarget

        func run() throws { target.show(try target.send("POST", "/resume")) }
    }

    struct Maintenance: ParsableCommand {
        enum Position: String, ExpressibleByArgument, CaseIterable { case on, off }

        static let configuration = CommandConfiguration(
            abstract: "Answer every request with 503, or no longer.")
        @OptionGroup var target: ControlTarget
        @Argument(help: "on or off.") var position: Position

        func run() throws {
            target.show(try target.send("PUT", "/maintenance", .object(["on": .bool(position == .on)])))
        }
    }
}

/// A segment of a path: everything but unreserved characters escaped (RFC 3986 §2.1).
private func escaped(_ text: String) -> String {
    var result = ""
    for byte in text.utf8 {
        switch byte {
        case 48...57, 65...90, 97...122, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            result.unicodeScalars.append(Unicode.Scalar(byte))
        default:
            let digits = String(byte, radix: 16, uppercase: true)
            result += digits.utf8.count == 1 ? "%0" + digits : "%" + digits
        }
    }
    return result
}
