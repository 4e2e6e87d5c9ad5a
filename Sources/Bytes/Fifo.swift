/// A queue: in at the end, out at the front, both in constant time on average.
///
/// Invariant: `items[..<head]` are nil, all others are not. Taken places are given back when they are half of all.
package struct Fifo<Element> {
    private var items: [Element?] = []
    private var head = 0

    package init() {}

    package var count: Int { items.count - head }
    package var isEmpty: Bool { count == 0 }
    package var first: Element? { isEmpty ? nil : items[head] }

    package mutating func append(_ element: Element) { items.append(element) }

    package mutating func popFirst() -> Element? {
        guard !isEmpty else { return nil }
        let element = items[head]
        items[head] = nil
        head += 1
        if head == items.count {
            items.removeAll(keepingCapacity: items.capacity <= 1024)
            head = 0
        } else if head >= 64, head * 2 >= items.count {
            items.removeSubrange(..<head)
            head = 0
        }
        return element
    }

    package mutating func removeAll() -> [Element] {
        defer {
            items = []
            head = 0
        }
        return items[head...].compactMap { $0 }
    }

    package mutating func removeAll(where isGone: (Element) -> Bool) {
        items = items[head...].filter { $0.map { !isGone($0) } ?? false }
        head = 0
    }
}

extension Fifo: Sequence {
    package func makeIterator() -> AnyIterator<Element> {
        var index = head
        return AnyIterator {
            guard index < items.count else { return nil }
            defer { index += 1 }
            return items[index]
        }
    }
}
