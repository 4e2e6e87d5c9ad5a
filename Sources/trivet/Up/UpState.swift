import Bytes
import Glibc
import Reactor

/// `up.json`: what runs, for scripts and tests. Readable by its owner only; every version appears whole.
enum UpState {
    static func write(
        _ children: [Child], in directory: UpDirectory, state: String, url: String, databaseURL: String,
        redisURL: String
    ) {
        let processes = children.map { child in
            JSONValue.object([
                "name": .string(child.name), "kind": .string(child.kind), "pid": .int(Int64(child.pid)),
                "address": .string(child.address), "state": .string(child.state.text),
                "restarts": .int(Int64(child.restarts)), "log": .string(child.program.logPath ?? ""),
            ])
        }
        let text =
            JSONValue.object([
                "pid": .int(Int64(getpid())), "state": .string(state), "url": .string(url),
                "certificate": .string(directory.certificatePath), "database_url": .string(databaseURL),
                "redis_url": .string(redisURL), "processes": .array(processes),
            ]).text + "\n"
        // Nobody but scripts reads it: without it the stack runs as well.
        try? WholeFile.replace(directory.statePath, with: Array(text.utf8), mode: 0o600)
    }

    static func remove(in directory: UpDirectory) { unlink(directory.statePath) }
}
