import Redis

/// The scripts of `Scripts/`, each behind the common beginning.
enum JobScripts {
    static let enqueue = script(PackageResources.enqueue_lua)
    static let claim = script(PackageResources.claim_lua)
    static let extend = script(PackageResources.extend_lua)
    static let complete = script(PackageResources.complete_lua)
    static let fail = script(PackageResources.fail_lua)
    static let release = script(PackageResources.release_lua)
    static let maintain = script(PackageResources.maintain_lua)

    private static func script(_ source: [UInt8]) -> RedisScript {
        RedisScript(String(decoding: PackageResources.common_lua + source, as: UTF8.self))
    }
}
