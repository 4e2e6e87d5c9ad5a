import API
import Reactor
import TestSupport

/// One node for all tests that leave it as it is.
enum Shared {
    private struct Node: Sendable {
        let fixture: APIFixture
        let node: APINode
        let group: EventLoopGroup
    }

    private static let started = Task {
        let fixture = try APIFixture()
        let (node, group) = try await fixture.start("shared")
        return Node(fixture: fixture, node: node, group: group)
    }

    static func run(_ body: (APIClient) async throws -> Void) async throws {
        let shared = try await started.value
        try await body(APIClient(port: shared.node.address?.port ?? 0))
    }
}
