import Bytes
import Redis

/// Reads and writes the registry in Redis. Keeps no state of its own.
package struct ClusterDirectory: Sendable {
    let keys: ClusterKeys
    let redis: RedisClient

    /// - Parameter cluster: nodes of one name belong together.
    package init(cluster: String, redis: RedisClient) {
        keys = ClusterKeys(cluster: cluster)
        self.redis = redis
    }

    /// All nodes that have refreshed their record lately, ordered by id. One script, no SCAN.
    package func members(timeoutMs: Int? = nil) async throws(RedisError) -> [ClusterMember] {
        let reply = try await redis.eval(
            Self.list, keys: [keys.nodes], arguments: [keys.nodePrefix, ClusterTiming.expiryMs],
            timeoutMs: timeoutMs)
        guard let parts = reply.array else { throw .protocol("the list of nodes is no array") }
        var members: [ClusterMember] = []
        for index in stride(from: 0, to: parts.count - 1, by: 2) {
            guard let ageMs = parts[index].int, let bytes = parts[index + 1].bytes,
                let json = try? JSONParser.parse(bytes), let record = NodeRecord(json: json)
            else { continue }
            members.append(ClusterMember(record: record, ageMs: ageMs))
        }
        return members.sorted { $0.record.id < $1.record.id }
    }

    /// What became of a record that was to be written.
    enum WriteOutcome {
        /// There was one of this id.
        case refreshed
        /// There was none.
        case created
        /// Nothing was written: a younger process uses the id.
        case superseded
    }

    /// Writes a record, to disappear after a while; announces it when asked to.
    func write(
        _ record: NodeRecord, announce: Bool, timeoutMs: Int? = nil
    ) async throws(RedisError) -> WriteOutcome {
        let event = announce ? "\(record.state.rawValue) \(record.id)" : ""
        let reply = try await redis.eval(
            Self.refresh, keys: [keys.node(record.id), keys.nodes, keys.events],
            arguments: [record.id, record.json.text, ClusterTiming.expiryMs, record.startedMs, event],
            timeoutMs: timeoutMs)
        switch reply.int {
        case 0: return .superseded
        case 2: return .created
        default: return .refreshed
        }
    }

    /// Removes a record, unless a younger process uses the id, and announces that the node is gone.
    func remove(_ record: NodeRecord) async throws(RedisError) {
        try await redis.eval(
            Self.leave, keys: [keys.node(record.id), keys.nodes, keys.events],
            arguments: [record.id, record.startedMs, "\(NodeState.gone.rawValue) \(record.id)"])
    }

    func acknowledge(_ id: String, epoch: Int, by balancer: String) async throws(RedisError) {
        let key = keys.drain(id, epoch: epoch)
        _ = try await redis.transaction([
            RedisCommand("SADD", key, balancer), RedisCommand("PEXPIRE", key, 3_600_000),
        ])
    }

    func acknowledgements(_ id: String, epoch: Int, timeoutMs: Int) async throws(RedisError) -> Set<String> {
        let reply = try await redis.send(
            RedisCommand("SMEMBERS", keys.drain(id, epoch: epoch)), timeoutMs: timeoutMs)
        return Set(reply.strings)
    }

    // Redis's own clock, so that those of the nodes need not agree.
    private static let clock = """
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)

        """

    private static let younger = """
        local function younger(record, started)
            if not record then return false end
            local ok, known = pcall(cjson.decode, record)
            return ok and type(known) == 'table' and (tonumber(known.started_ms) or 0) > tonumber(started)
        end

        """

    private static let refresh = RedisScript(
        clock + younger + """
            local known = redis.call('GET', KEYS[1])
            if younger(known, ARGV[4]) then return 0 end
            -- A full Redis refuses what could take memory, but only as the first write of a script; this takes none.
            redis.call('DEL', KEYS[1])
            redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
            redis.call('ZADD', KEYS[2], now, ARGV[1])
            if ARGV[5] ~= '' then redis.call('PUBLISH', KEYS[3], ARGV[5]) end
            return known and 1 or 2
            """)

    private static let leave = RedisScript(
        younger + """
            if younger(redis.call('GET', KEYS[1]), ARGV[2]) then return 0 end
            redis.call('DEL', KEYS[1])
            redis.call('ZREM', KEYS[2], ARGV[1])
            redis.call('PUBLISH', KEYS[3], ARGV[3])
            return 1
            """)

    private static let list = RedisScript(
        clock + """
            redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - ARGV[2]))
            local found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
            local result = {}
            for i = 1, #found, 2 do
                local record = redis.call('GET', ARGV[1] .. found[i])
                if record then
                    result[#result + 1] = now - tonumber(found[i + 1])
                    result[#result + 1] = record
                end
            end
            return result
            """)
}
