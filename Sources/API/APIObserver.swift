import HTTPServer
import HTTPWire
import Logging
import Reactor
import Telemetry

/// Counts requests and logs faults.
struct APIObserver: HTTPServerObserver {
    let metrics: HTTPMetrics
    let logger: Logger

    func connectionDidOpen(loop: EventLoop) { metrics.connections.add(1, loop: loop.index) }
    func connectionDidClose(loop: EventLoop) { metrics.connections.add(-1, loop: loop.index) }

    func requestDidFinish(_ request: Request, _ outcome: RequestOutcome) {
        metrics.record(
            method: MethodLabel(request.methodName), status: outcome.status, durationNs: outcome.durationNs,
            loop: request.loop.index)
        logger.debug(
            "request",
            metadata: [
                "request_id": "\(request.requestID)", "method": "\(request.methodName)",
                "route": "\(request.routePattern ?? "")", "status": "\(outcome.status)",
                "duration_us": "\(outcome.durationNs / 1000)",
            ])
    }

    func requestWasRefused(_ error: HTTPParseError, peer: SocketAddress?, loop: EventLoop) {
        metrics.record(method: .other, status: Int(error.status.code), durationNs: 0, loop: loop.index)
    }

    func handlerDidFail(_ request: Request, _ error: any Error) {
        logger.error(
            "a handler failed",
            metadata: [
                "request_id": "\(request.requestID)", "method": "\(request.methodName)",
                "route": "\(request.routePattern ?? "")", "reason": "\(error)",
            ])
    }
}
