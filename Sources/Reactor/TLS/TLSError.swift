import COpenSSL

/// Reads and clears OpenSSL's error queue of this thread.
func takeTLSError(_ doing: String) -> IOError {
    var text = doing
    var code = ERR_get_error()
    var first = true
    while code != 0 {
        if first, let reason = ERR_reason_error_string(code) {
            text += ": \(String(cString: reason))"
            first = false
        }
        code = ERR_get_error()
    }
    return IOError(.tls, text)
}
