import Bytes

/// What a node says of itself in the registry.
package struct NodeRecord: Sendable, Equatable {
    /// NODE_ID, unique in the cluster.
    package var id: String
    /// `api`, `worker` or `balancer`.
    package var mode: String
    /// Where others reach it, as `host:port` or `unix:/path`.
    package var address: String
    package var version: String
    package var group: String
    package var state: NodeState = .starting
    /// Event loops.
    package var loops: Int
    /// What the node is busy with now: requests or jobs in flight.
    package var load = 0
    /// Milliseconds since 1970. Of two processes that use one id the younger one counts.
    package var startedMs: Int
    package var pid: Int
    /// Names one wish to be drained, so that an old acknowledgement is not taken for a new one. 0: none yet.
    package var drainEpoch = 0

    package init(
        id: String, mode: String, address: String, version: String, group: String, loops: Int, startedMs: Int,
        pid: Int
    ) {
        self.id = id
        self.mode = mode
        self.address = address
        self.version = version
        self.group = group
        self.loops = loops
        self.startedMs = startedMs
        self.pid = pid
    }

    /// As it stands in Redis. Unknown members are ignored, so that releases can be mixed; nil when one is
    /// missing.
    package init?(json: JSONValue) {
        guard let id = json["id"]?.stringValue, let mode = json["mode"]?.stringValue,
            let address = json["address"]?.stringValue, let version = json["version"]?.stringValue,
            let group = json["group"]?.stringValue,
            let state = json["state"]?.stringValue.flatMap({ NodeState(rawValue: $0) }),
            let loops = json["loops"]?.intValue, let load = json["load"]?.intValue,
            let startedMs = json["started_ms"]?.intValue, let pid = json["pid"]?.intValue
        else { return nil }
        self.init(
            id: id, mode: mode, address: address, version: version, group: group, loops: loops,
            startedMs: startedMs,
            pid: pid)
        self.state = state
        self.load = load
        drainEpoch = json["drain_epoch"]?.intValue ?? 0
    }

    package var json: JSONValue {
        .object([
            "id": .string(id), "mode": .string(mode), "address": .string(address),
            "version": .string(version),
            "group": .string(group), "state": .string(state.rawValue), "loops": .int(Int64(loops)),
            "load": .int(Int64(load)), "started_ms": .int(Int64(startedMs)), "pid": .int(Int64(pid)),
            "drain_epoch": .int(Int64(drainEpoch)),
        ])
    }
}
