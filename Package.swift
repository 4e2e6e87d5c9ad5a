// swift-tools-version: 6.2
import PackageDescription

// One target per word of docs/ARCHITECTURE.md. A target may depend only on targets of the layers above it
// in this file: C boundary, pure, loop, clients, server, domain, modes, executable.

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableExperimentalFeature("Lifetimes"),
    .treatAllWarnings(as: .error),
]

func library(_ name: String, _ dependencies: [Target.Dependency], embedding folder: String? = nil) -> Target {
    .target(
        name: name, dependencies: dependencies, resources: folder.map { [.embedInCode($0)] } ?? [],
        swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: dependencies, path: "Tests/\(name)", swiftSettings: settings)
}

let logging = Target.Dependency.product(name: "Logging", package: "swift-log")

let package = Package(
    name: "trivet",
    products: [.executable(name: "trivet", targets: ["trivet"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        // C boundary: module maps and one-line shims, nothing else.
        .target(name: "CLinux"),
        .target(name: "CHiredis", linkerSettings: [.linkedLibrary("hiredis")]),
        .target(name: "CPostgres", linkerSettings: [.linkedLibrary("pq")]),
        .target(name: "COpenSSL", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        .target(name: "CNghttp2", linkerSettings: [.linkedLibrary("nghttp2")]),
        .target(name: "CArgon2", linkerSettings: [.linkedLibrary("argon2")]),

        // Pure: bytes in, bytes and events out.
        library("Bytes", []),
        library("HTTPWire", ["Bytes"]),
        library("HTTP2", ["CNghttp2", "Bytes"]),

        // Loop.
        library("Reactor", ["CLinux", "COpenSSL", "Bytes"]),
        library("Telemetry", ["CLinux", "Bytes", "Reactor", logging]),

        // Clients.
        library("Redis", ["CHiredis", "COpenSSL", "Bytes", "Reactor", "Telemetry", logging]),
        library("Postgres", ["CPostgres", "CLinux", "Bytes", "Reactor", "Telemetry", logging]),
        library("HTTPClient", ["Bytes", "HTTPWire", "Reactor"]),

        // Server.
        library("HTTPServer", ["Bytes", "HTTPWire", "Reactor", "Telemetry"]),

        // Domain.
        library(
            "Cluster",
            [
                "CLinux", "Bytes", "HTTPWire", "Reactor", "Telemetry", "Redis", "Postgres", "HTTPServer",
                logging,
            ]),
        library("Jobs", ["Bytes", "Reactor", "Telemetry", "Redis"], embedding: "Scripts"),

        // The environment, read and validated: one struct per mode. Named so because swift-configuration's module is `Configuration`.
        library("Settings", ["CLinux", "Bytes", "Reactor", "Telemetry", logging]),

        // Modes: siblings, none imports another.
        library(
            "API",
            [
                "COpenSSL", "CArgon2", "Bytes", "HTTPWire", "Reactor", "Telemetry", "Redis", "Postgres",
                "HTTPServer",
                "Cluster", "Jobs", "Settings", logging,
            ], embedding: "Migrations"),
        library(
            "Worker",
            [
                "Bytes", "HTTPWire", "Reactor", "Telemetry", "Redis", "Postgres", "HTTPClient", "HTTPServer",
                "Cluster", "Jobs",
                "Settings", logging,
            ]),
        library(
            "Balancer",
            [
                "CLinux", "Bytes", "HTTPWire", "HTTP2", "Reactor", "Telemetry", "Redis", "HTTPServer",
                "Cluster",
                "Settings", logging,
            ]),

        // Executable.
        .executableTarget(
            name: "trivet",
            dependencies: [
                "CLinux", "COpenSSL", "Bytes", "Reactor", "Telemetry", "Redis", "Postgres", "HTTPServer",
                "Cluster", "Jobs",
                "Settings", "API", "Worker", "Balancer", logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),

        // Tests mirror Sources. TestSupport starts throw-away servers and speaks to them over blocking sockets of its own,
        // so that no test checks our code with our code.
        .target(
            name: "TestSupport", dependencies: ["CLinux", "COpenSSL", "CNghttp2"], path: "Tests/TestSupport",
            swiftSettings: settings),
        tests("Bytes", ["Bytes"]),
        tests("HTTPWire", ["HTTPWire", "Bytes"]),
        tests("HTTP2", ["HTTP2", "Bytes", "TestSupport"]),
        tests("Reactor", ["Reactor", "Bytes", "CLinux", "COpenSSL", "TestSupport"]),
        tests("Telemetry", ["Telemetry", "Reactor", "Bytes", logging]),
        tests("Redis", ["Redis", "Reactor", "TestSupport", logging]),
        tests("Postgres", ["Postgres", "Reactor", "TestSupport", logging]),
        tests("HTTPClient", ["HTTPClient", "HTTPServer", "HTTPWire", "Reactor", "TestSupport"]),
        tests("HTTPServer", ["HTTPServer", "HTTPWire", "Reactor", "TestSupport"]),
        tests("Cluster", ["Cluster", "Bytes", "Redis", "Reactor", "TestSupport", logging]),
        tests("Jobs", ["Jobs", "Bytes", "Redis", "Reactor", "TestSupport", logging]),
        tests("Settings", ["Settings", "Telemetry"]),
        tests(
            "API",
            ["API", "Bytes", "Postgres", "Reactor", "Redis", "Settings", "Telemetry", "TestSupport", logging]),
        tests(
            "Worker",
            [
                "Worker", "API", "Bytes", "Jobs", "Postgres", "Reactor", "Redis", "Settings", "Telemetry",
                "TestSupport", logging,
            ]),
        tests(
            "Balancer",
            [
                "Balancer", "Bytes", "HTTPWire", "HTTP2", "Reactor", "Settings", "Telemetry", "COpenSSL",
                "TestSupport", logging,
            ]),
        tests("EndToEnd", ["TestSupport", "Bytes"]),
        tests("House", []),
    ]
)
