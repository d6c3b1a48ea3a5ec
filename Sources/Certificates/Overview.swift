import Glibc
import JobletModel

/// `joblet-certs show`: every certificate of a directory.
public struct Overview: Sendable {
  public struct Entry: Sendable {
    public var file: String
    public var summary: CertificateSummary

    /// `admin`, `CA`, `server`, or what an OU without a role says.
    public var use: String {
      if summary.isAuthority { return "CA" }
      if let role = summary.role { return role.rawValue }
      return summary.organizationalUnit.map { "unknown role '\($0)'" } ?? "server"
    }
  }

  public let entries: [Entry]

  /// Reads all `*.crt` files, by name.
  /// - Throws: ``CertificateFailure`` if the directory or one of them can't be read.
  public init(directory: String) throws {
    guard let handle = opendir(directory) else { throw SecretFile.failure("can't read the directory", directory) }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: Int(NAME_MAX) + 1) { String(cString: $0) }
      }
      if name.hasSuffix(".crt") { names.append(name) }
    }
    guard !names.isEmpty else {
      throw CertificateFailure("there are no certificates in \(directory); 'joblet-certs init' makes them")
    }
    entries = try names.sorted().map { name in
      let pem = try SecretFile.read("\(directory)/\(name)") ?? ""
      do {
        return Entry(file: name, summary: try CertificateSummary(pem: pem))
      } catch {
        throw CertificateFailure("\(directory)/\(name): \(error)")
      }
    }
  }

  /// The table `show` prints; `now` tells what has run out.
  public func lines(now: Timestamp = .now()) -> [String] {
    let rows =
      [["FILE", "USE", "SUBJECT", "VALID UNTIL", "DAYS LEFT", "NAMES"]]
      + entries.map { entry in
        let days = (entry.summary.notAfter.nanoseconds - now.nanoseconds) / 86_400_000_000_000
        return [
          entry.file, entry.use, entry.summary.subject, String(entry.summary.notAfter.description.prefix(10)),
          entry.summary.notAfter < now ? "expired" : "\(days)", entry.summary.names.joined(separator: " "),
        ]
      }
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      let text = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }.joined(separator: "  ")
      return String(text.reversed().drop { $0 == " " }.reversed())
    }
  }
}
