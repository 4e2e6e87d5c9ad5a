import Bytes
import Glibc
import Logging
import Reactor
import Redis

/// One balancer's hold on what operators have said: read at the start, at each announcement and every two seconds.
///
/// The record in Redis is what all balancers agree on; the last known one holds while Redis is away, and is put
/// back when Redis has lost it. Without Redis it is this balancer's own, and lasts as long as its process.
package final class SteeringStore: LoopBound, @unchecked Sendable {
    /// Why a change was not made.
    package enum Failure: Error, Sendable {
        /// Redis is away: the other balancers would not learn of it.
        case unavailable(String)
        /// Others made changes at the same time, again and again.
        case contended
    }

    package let loop: EventLoop
    /// What holds now.
    package private(set) var record = SteeringRecord()
    private let key: String
    private let channel: String
    private let redis: RedisClient?
    private let logger: Logger
    private let onChange: (SteeringRecord) -> Void
    private var subscriber: RedisSubscriber?
    private var timer: LoopTimer?
    private var isReading = false
    private var isReadWanted = false
    private var isClosed = false
    // As many balancers may change it at the same moment, each one change, and all get through.
    private static let attempts = 16

    /// - Parameters:
    ///   - redis: nil: nobody else is told.
    ///   - onChange: called on the loop with each newer record.
    package init(
        cluster: String, redis: RedisClient?, loop: EventLoop, logger: Logger,
        onChange: @escaping (SteeringRecord) -> Void
    ) {
        let keys = ClusterKeys(cluster: cluster)
        key = keys.steering
        channel = keys.steeringEvents
        self.redis = redis
        self.loop = loop
        self.logger = logger
        self.onChange = onChange
    }

    /// Reads the record once, within Redis' own deadlines, and follows it until `close()`.
    package func start() async {
        assertInLoop()
        guard let redis else { return }
        timer = loop.makeTimer { [weak self] in self?.readSoon() }
        await read()
        guard !isClosed else { return }
        subscriber = RedisSubscriber(redis.configuration, channels: [channel], loop: loop, logger: logger) {
            [weak self] event in
            switch event {
            case .connected, .message: self?.readSoon()
            case .disconnected: break
            }
        }
    }

    /// Follows no more; the record stays.
    package func close() {
        assertInLoop()
        isClosed = true
        timer?.invalidate()
        subscriber?.close()
        subscriber = nil
    }

    // MARK: Reading

    private func readSoon() {
        guard !isClosed else { return }
        // What is announced while an answer is on its way may not be in it.
        isReadWanted = true
        guard !isReading else { return }
        isReading = true
        loop.spawn { [self] in
            while isReadWanted, !isClosed { await read() }
            isReading = false
        }
    }

    private func read() async {
        isReadWanted = false
        var nextMs = ClusterTiming.refreshMs
        do throws(RedisError) {
            let found = try await fetch()
            take(found)
            // Redis came back empty, or with what it had saved a while ago.
            if found.version < record.version {
                _ = try await write(record, instead: found.version)
                logger.info("steering put back", metadata: ["version": "\(record.version)"])
            }
        } catch {
            nextMs = ClusterTiming.retryMs
            logger.debug("cannot read the steering", metadata: ["reason": "\(error)"])
        }
        guard !isClosed else { return }
        timer?.arm(afterNs: UInt64(nextMs) * 1_000_000)
    }

    private func fetch() async throws(RedisError) -> SteeringRecord {
        guard let bytes = try await redis?.send("GET", key).bytes else { return SteeringRecord() }
        guard let json = try? JSONParser.parse(bytes), let record = SteeringRecord(json: json) else {
            throw .protocol("the steering record is not understood")
        }
        return record
    }

    private func take(_ next: SteeringRecord) {
        guard next.version > record.version else { return }
        record = next
        onChange(next)
    }

    // MARK: Changing

    /// Changes the record for all balancers.
    /// - Returns: the record with the change.
    package func change(_ body: (inout SteeringRecord) -> Void) async throws(Failure) -> SteeringRecord {
        assertInLoop()
        guard redis != nil else { return changed(record, body) }
        do throws(RedisError) {
            for _ in 0..<Self.attempts {
                let found = try await fetch()
                take(found)
                let next = next(record, body)
                if try await write(next, instead: found.version) {
                    take(next)
                    return next
                }
            }
        } catch {
            throw .unavailable("\(error)")
        }
        throw .contended
    }

    private func changed(_ from: SteeringRecord, _ body: (inout SteeringRecord) -> Void) -> SteeringRecord {
        let next = next(from, body)
        take(next)
        return next
    }

    /// Versions are times where they can be: those of a Redis that was emptied are never repeated.
    private func next(_ from: SteeringRecord, _ body: (inout SteeringRecord) -> Void) -> SteeringRecord {
        var next = from
        body(&next)
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        next.version = max(from.version + 1, time.tv_sec * 1000 + time.tv_nsec / 1_000_000)
        return next
    }

    /// - Returns: false when another has written meanwhile.
    private func write(_ record: SteeringRecord, instead version: Int) async throws(RedisError) -> Bool {
        guard let redis else { return true }
        let reply = try await redis.eval(
            Self.replace, keys: [key, channel], arguments: [version, record.json.text, record.version])
        return reply.int == 1
    }

    private static let replace = RedisScript(
        """
        local version = 0
        local current = redis.call('GET', KEYS[1])
        if current then
            local ok, known = pcall(cjson.decode, current)
            if ok and type(known) == 'table' then version = tonumber(known.version) or 0 end
        end
        if version ~= tonumber(ARGV[1]) then return 0 end
        redis.call('SET', KEYS[1], ARGV[2])
        redis.call('PUBLISH', KEYS[2], ARGV[3])
        return 1
        """)
}
