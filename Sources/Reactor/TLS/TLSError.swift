import COpenSSL
import Glibc

/// Reads and clears OpenSSL's error queue of this thread. The first entry is the cause; later ones say where
/// it passed.
func takeTLSError(_ doing: String) -> IOError {
    var reason = ""
    while true {
        let code = ERR_get_error()
        if code == 0 { break }
        if reason.isEmpty { reason = describe(code) }
    }
    return IOError(.tls, reason.isEmpty ? doing : "\(doing): \(reason)")
}

private func describe(_ code: UInt) -> String {
    if code & trivet_ERR_SYSTEM_FLAG != 0 { return String(cString: strerror(Int32(code & 0xff_ffff))) }
    return ERR_reason_error_string(code).map { String(cString: $0) } ?? ""
}
