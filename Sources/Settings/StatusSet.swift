/// HTTP statuses, as `HEALTH_STATUS` names them.
package struct StatusSet: Sendable, Equatable, CustomStringConvertible {
    private let ranges: [ClosedRange<Int>]

    /// 200 to 299.
    package static let success = StatusSet(ranges: [200...299])

    private init(ranges: [ClosedRange<Int>]) { self.ranges = ranges }

    /// Parses `200`, `2xx` and `200-299`, combined with commas.
    package init?(parsing text: String) {
        var ranges: [ClosedRange<Int>] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let word = part.drop { $0 == " " }
            let ends = word.split(separator: "-", omittingEmptySubsequences: false)
            if word.hasSuffix("xx"), word.utf8.count == 3, let first = Int(word.prefix(1)),
                (1...5).contains(first)
            {
                ranges.append(first * 100...first * 100 + 99)
            } else if (1...2).contains(ends.count), let low = StatusSet.status(ends[0]),
                let high = StatusSet.status(ends[ends.count - 1]), low <= high
            {
                ranges.append(low...high)
            } else {
                return nil
            }
        }
        self.init(ranges: ranges)
    }

    private static func status(_ digits: Substring) -> Int? {
        guard digits.utf8.count == 3, let value = Int(digits), (100...599).contains(value) else { return nil }
        return value
    }

    package func contains(_ status: Int) -> Bool { ranges.contains { $0.contains(status) } }

    package var description: String {
        ranges.map { range in
            if range.count == 1 { return "\(range.lowerBound)" }
            let isClass = range.lowerBound % 100 == 0 && range.upperBound == range.lowerBound + 99
            return isClass ? "\(range.lowerBound / 100)xx" : "\(range.lowerBound)-\(range.upperBound)"
        }.joined(separator: ",")
    }
}
