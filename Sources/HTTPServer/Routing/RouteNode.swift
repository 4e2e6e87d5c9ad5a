import HTTPWire

/// A node of the tree of path segments. Built once, then only read.
struct RouteNode: Sendable {
    private struct Literal: Sendable {
        let segment: [UInt8]
        var node: RouteNode
    }

    private var literals: [Literal] = []
    private var parameter: [RouteNode] = []
    private var wildcardRoutes: [Route] = []
    private var routes: [Route] = []

    mutating func insert(_ route: Route, _ segments: [PatternSegment]) {
        guard let first = segments.first else {
            routes.append(route)
            return
        }
        let rest = Array(segments.dropFirst())
        switch first {
        case .literal(let text):
            let bytes = Array(text.utf8)
            if let index = literals.firstIndex(where: { $0.segment == bytes }) {
                literals[index].node.insert(route, rest)
            } else {
                var node = RouteNode()
                node.insert(route, rest)
                literals.append(Literal(segment: bytes, node: node))
            }
        case .parameter:
            if parameter.isEmpty { parameter.append(RouteNode()) }
            parameter[0].insert(route, rest)
        case .wildcard:
            wildcardRoutes.append(route)
        }
    }

    /// The routes of the first pattern that matches `path` from `index` on (which stands behind a slash),
    /// with the raw values of its parameters in `captured`. Nil when none does.
    func match(_ path: UnsafeRawBufferPointer, _ index: Int, _ captured: inout [Range<Int>]) -> [Route]? {
        var end = index
        while end < path.count, path[end] != UInt8(ascii: "/") { end += 1 }
        for literal in literals where isEqual(literal.segment, path, index, end) {
            if let routes = literal.node.continueMatch(path, end, &captured) { return routes }
        }
        if end > index, let node = parameter.first {
            captured.append(index..<end)
            if let routes = node.continueMatch(path, end, &captured) { return routes }
            captured.removeLast()
        }
        if !wildcardRoutes.isEmpty {
            captured.append(index..<path.count)
            return wildcardRoutes
        }
        return nil
    }

    private func continueMatch(_ path: UnsafeRawBufferPointer, _ end: Int, _ captured: inout [Range<Int>])
        -> [Route]?
    {
        if end == path.count { return routes.isEmpty ? nil : routes }
        return match(path, end + 1, &captured)
    }

    @inline(__always)
    private func isEqual(_ segment: [UInt8], _ path: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> Bool
    {
        guard segment.count == end - start else { return false }
        for offset in 0..<segment.count where segment[offset] != path[start + offset] { return false }
        return true
    }
}
