import Bytes
import Glibc

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
                "restarts": .int(Int64(child.restarts)), "log": .string(child.program.logPath),
            ])
        }
        let text =
            JSONValue.object([
                "pid": .int(Int64(getpid())), "state": .string(state), "url": .string(url),
                "certificate": .string(directory.certificatePath), "database_url": .string(databaseURL),
                "redis_url": .string(redisURL), "processes": .array(processes),
            ]).text + "\n"
        let temporary = directory.statePath + ".new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return }
        let bytes = Array(text.utf8)
        let written = Glibc.write(descriptor, bytes, bytes.count)
        close(descriptor)
        if written == bytes.count { rename(temporary, directory.statePath) }
    }

    static func remove(in directory: UpDirectory) { unlink(directory.statePath) }
}
