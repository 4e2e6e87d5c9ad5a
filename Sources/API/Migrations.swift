import Postgres

/// The database's schema, step by step. The texts are the files of `Migrations/`, which SwiftPM embeds.
package enum Migrations {
    /// All of them, in ascending order.
    package static let all = [
        migration(1, "accounts", PackageResources._001_accounts_sql),
        migration(2, "records", PackageResources._002_records_sql),
        migration(3, "idempotency-keys", PackageResources._003_idempotency_keys_sql),
        migration(4, "files", PackageResources._004_files_sql),
        migration(5, "sizes-and-ages", PackageResources._005_sizes_and_ages_sql),
    ]

    private static func migration(_ number: Int, _ name: String, _ sql: [UInt8]) -> Migration {
        Migration(number, name, String(decoding: sql, as: UTF8.self))
    }
}
