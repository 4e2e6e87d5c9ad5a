extension SettingsReader {
    /// A line for each variable of the environment that is nearly, but not quite, one of ours.
    func misspellings() -> [String] {
        let names = namesOfAllModes()
        let known = names.union(names.map { $0 + "_FILE" })
        var result: [String] = []
        for name in environment.keys.sorted() where !known.contains(name) && name.utf8.count >= 5 {
            let near = known.sorted().first { candidate in
                let allowed = candidate.utf8.count >= 9 ? 2 : 1
                return candidate.utf8.count >= 5 && editDistance(name, candidate, atMost: allowed) <= allowed
            }
            if let near { result.append("\(name) is not a variable of Trivet; was \(near) meant?") }
        }
        return result
    }

    /// What any mode reads, and what the command line does: not misspellings of what this mode reads.
    private func namesOfAllModes() -> Set<String> {
        let modes: [any ReadableConfiguration.Type] = [
            APIConfiguration.self, WorkerConfiguration.self, BalancerConfiguration.self,
            MigrateConfiguration.self,
        ]
        var names: Set<String> = ["MODE"]
        for mode in modes {
            var reader = SettingsReader(environment: [:], machine: machine)
            _ = mode.init(from: &reader)
            names.formUnion(reader.effective.map(\.name))
        }
        return names
    }

    private func editDistance(_ a: String, _ b: String, atMost limit: Int) -> Int {
        let a = Array(a.utf8)
        let b = Array(b.utf8)
        if abs(a.count - b.count) > limit { return limit + 1 }
        var previous = Array(0...b.count)
        for i in 0..<a.count {
            var current = [i + 1]
            for j in 0..<b.count {
                current.append(min(previous[j + 1] + 1, current[j] + 1, previous[j] + (a[i] == b[j] ? 0 : 1)))
            }
            previous = current
        }
        return previous[b.count]
    }
}
