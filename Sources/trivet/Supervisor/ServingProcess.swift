import Glibc
import Reactor

/// One serving process, as its supervisor sees it.
final class ServingProcess {
    let pid: pid_t
    let control: ControlSocket
    /// Why it was started.
    let reason: String
    let startedMs: Int
    /// When it said that it serves; nil until then.
    var readyMs: Int?
    /// When it was last heard of, since it was ready.
    var heardMs = 0
    /// It has closed its end of the control socket: nothing more will come.
    var isSilent = false
    /// Its loops stand still.
    var isHung = false
    /// When it is ended by force; nil: never.
    var deadlineMs: Int?

    init(pid: pid_t, control: ControlSocket, reason: String, startedMs: Int) {
        self.pid = pid
        self.control = control
        self.reason = reason
        self.startedMs = startedMs
    }

    /// One that was started by the program that ran in this process before.
    init(adopting pid: pid_t, control: ControlSocket, deadlineMs: Int?) {
        self.pid = pid
        self.control = control
        self.deadlineMs = deadlineMs
        reason = "adopted"
        startedMs = Clock.nowMs
        readyMs = startedMs
        heardMs = startedMs
    }

    func signal(_ signal: Int32) { kill(pid, signal) }
}
