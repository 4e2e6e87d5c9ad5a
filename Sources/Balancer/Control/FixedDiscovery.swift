import Logging
import Reactor
import Settings

/// Upstreams that are named in the configuration, by address or by a name that DNS knows.
///
/// Names are resolved anew at every interval: an address that DNS has changed is never kept for ever. What was found last
/// stays when a look-up fails.
package final class FixedDiscovery: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    private let table: UpstreamTable
    private let fixed: [UpstreamSetting]
    private let names: [Discovery.DNSName]
    private let group: String
    private let logger: Logger
    private var isStopped = false
    private var resolved: [String: [SocketAddress]] = [:]
    private var current: [String: SocketAddress] = [:]
    private static let intervalNs: UInt64 = 5_000_000_000
    private static let timeoutMs = 3_000

    package init(
        table: UpstreamTable, fixed: [UpstreamSetting], names: [Discovery.DNSName], group: String,
        logger: Logger
    ) {
        loop = table.loop
        self.table = table
        self.fixed = fixed
        self.names = names
        self.group = group
        self.logger = logger
    }

    /// Resolves once, then again and again until `stop()` if there is any name among the upstreams. On the control loop.
    package func start() async {
        await look()
        let isNumeric =
            names.isEmpty && fixed.allSatisfy { SocketAddress(numericHost: $0.host, port: 0) != nil }
        guard !isNumeric else { return }
        loop.spawn { [self] in
            while !isStopped {
                await loop.sleep(ns: Self.intervalNs)
                if !isStopped { await look() }
            }
        }
    }

    /// Looks no more.
    package func stop() { isStopped = true }

    private func look() async {
        var descriptions: [UpstreamDescription] = []
        for upstream in fixed {
            if let address = await address(of: upstream) {
                descriptions.append(
                    UpstreamDescription(
                        id: "\(upstream.host):\(upstream.port)", address: address,
                        group: upstream.group ?? group, weight: upstream.weight, isBackup: upstream.isBackup,
                        maxConnections: upstream.maxConnections, source: .static))
            }
        }
        table.update(.static, descriptions)
        descriptions = []
        for name in names {
            for address in await addresses(name.name, name.port) {
                descriptions.append(
                    UpstreamDescription(id: address.description, address: address, group: group, source: .dns)
                )
            }
        }
        table.update(.dns, descriptions)
    }

    /// The one that is in use, for as long as it is among the answers, which a resolver may turn round each time.
    private func address(of upstream: UpstreamSetting) async -> SocketAddress? {
        let found = await addresses(upstream.host, upstream.port)
        let key = "\(upstream.host):\(upstream.port)"
        if let current = current[key], found.contains(current) { return current }
        current[key] = found.first
        return found.first
    }

    private func addresses(_ host: String, _ port: Int) async -> [SocketAddress] {
        let key = "\(host):\(port)"
        do throws(IOError) {
            let found = try await Resolver.resolve(
                .host(host, port: UInt16(truncatingIfNeeded: port)), timeoutMs: Self.timeoutMs, loop: loop)
            resolved[key] = found
            return found
        } catch {
            logger.warning("upstream not resolved", metadata: ["name": "\(host)", "reason": "\(error)"])
            return resolved[key] ?? []
        }
    }
}
