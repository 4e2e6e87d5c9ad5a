import Redis

/// Sessions in Redis: a hash per session under the digest of its token, which ends by itself, and per account a sorted set
/// of digests by the time at which they end at the latest. The set may name sessions that are gone; who reads it tidies up.
///
/// Each session and each account has a hash tag of its own, so that they spread over a Redis Cluster; no script needs two.
struct SessionStore: Sendable {
    let redis: RedisClient
    let cluster: String
    /// How long a session lives after its last use.
    let ttlMs: Int
    /// By which every call ends, however many commands it takes.
    private(set) var deadlineNs = UInt64.max

    init(redis: RedisClient, cluster: String, ttlMs: Int) {
        self.redis = redis
        self.cluster = cluster
        self.ttlMs = ttlMs
    }

    /// The same with a deadline for every call.
    func bounded(byNs deadlineNs: UInt64) -> SessionStore {
        var copy = self
        copy.deadlineNs = deadlineNs
        return copy
    }

    /// However much it is used, a session ends after this long; a ttl beyond it is honoured.
    static let absoluteLifetimeMs = 90 * 86_400_000
    /// A session's life is prolonged at most this often, so that a busy one costs no writes.
    static let touchIntervalMs = 60_000
    /// The oldest sessions of an account make room for new ones.
    static let sessionsPerAccount = 100

    private func sessionKey(_ hash: String) -> String { "trivet:{\(cluster):session:\(hash)}" }
    private func accountKey(_ id: String) -> String { "trivet:{\(cluster):account:\(id)}:sessions" }

    /// Prolongs a session unless it has just ended.
    private static let touch = RedisScript(
        """
        if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
        -- First what takes no memory: after it a full Redis lets the rest pass.
        redis.call('PEXPIREAT', KEYS[1], ARGV[2])
        return redis.call('HSET', KEYS[1], 'used_at', ARGV[1], 'expires_at', ARGV[2])
        """)

    private func endMs(createdAtMs: Int, nowMs: Int) -> Int {
        min(nowMs + ttlMs, createdAtMs + max(Self.absoluteLifetimeMs, ttlMs))
    }

    /// Makes a session.
    func create(
        id: String, token: SessionToken, account: Account, userAgent: String, nowMs: Int
    ) async throws(RedisError) -> Session {
        let session = Session(
            id: id, accountID: account.id, roles: account.roles, createdAtMs: nowMs,
            expiresAtMs: endMs(createdAtMs: nowMs, nowMs: nowMs), userAgent: userAgent)
        let key = sessionKey(token.hash)
        let replies = try await redis.transaction(
            [
                RedisCommand(
                    "HSET", key, "id", id, "account_id", account.id, "roles",
                    account.roles.joined(separator: ","),
                    "created_at", nowMs, "used_at", nowMs, "expires_at", session.expiresAtMs, "user_agent",
                    userAgent),
                RedisCommand("PEXPIREAT", key, session.expiresAtMs),
            ], deadlineNs: deadlineNs)
        guard replies.count == 2 else { throw .protocol("EXEC replied \(replies)") }
        let index = accountKey(account.id)
        let lastMs = nowMs + max(Self.absoluteLifetimeMs, ttlMs)
        let counted = try await redis.sendAll(
            [
                RedisCommand("ZADD", index, lastMs, token.hash), RedisCommand("PEXPIREAT", index, lastMs),
                RedisCommand("ZRANGE", index, 0, -Self.sessionsPerAccount - 1),
            ], deadlineNs: deadlineNs)
        if let surplus = counted.last?.strings, !surplus.isEmpty {
            for hash in surplus { try await delete(hash: hash, accountID: account.id) }
        }
        return session
    }

    /// The session of a token, prolonged when that is due; nil when there is none.
    func find(_ token: SessionToken, nowMs: Int) async throws(RedisError) -> Session? {
        let key = sessionKey(token.hash)
        guard let session = Session(try await read("HGETALL", key).fields), session.expiresAtMs > nowMs else {
            return nil
        }
        if nowMs - session.usedAtMs >= min(Self.touchIntervalMs, ttlMs / 4) {
            let endMs = endMs(createdAtMs: session.createdAtMs, nowMs: nowMs)
            // What could be read is good; without this it only ends earlier.
            _ = try? await redis.eval(
                Self.touch, keys: [key], arguments: [nowMs, endMs], deadlineNs: deadlineNs)
        }
        return session
    }

    private func read(_ arguments: any RedisArgument...) async throws(RedisError) -> RedisReply {
        try await redis.send(RedisCommand(arguments), deadlineNs: deadlineNs, isRepeatable: true)
    }

    /// The sessions of an account, oldest first.
    func list(accountID: String) async throws(RedisError) -> [Session] {
        let index = accountKey(accountID)
        let hashes = try await read("ZRANGE", index, 0, -1).strings
        guard !hashes.isEmpty else { return [] }
        let replies = try await redis.sendAll(
            hashes.map { RedisCommand("HGETALL", sessionKey($0)) }, deadlineNs: deadlineNs)
        var sessions: [Session] = []
        var gone = RedisCommand("ZREM", index)
        for (hash, reply) in zip(hashes, replies) {
            if let session = Session(reply.fields) {
                sessions.append(session)
            } else if case .array = reply {
                gone.append(hash)
            }
        }
        if gone.argumentCount > 2 { try await redis.send(gone, deadlineNs: deadlineNs) }
        return sessions
    }

    /// Ends a session.
    func delete(_ token: SessionToken, accountID: String) async throws(RedisError) {
        try await delete(hash: token.hash, accountID: accountID)
    }

    private func delete(hash: String, accountID: String) async throws(RedisError) {
        // The session first: without it the entry in the account's set is only untidy.
        try await redis.send(RedisCommand("DEL", sessionKey(hash)), deadlineNs: deadlineNs)
        try await redis.send(RedisCommand("ZREM", accountKey(accountID), hash), deadlineNs: deadlineNs)
    }
}
