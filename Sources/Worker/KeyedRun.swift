import Crypto
import FoundationEssentials
import Glibc
import JobletModel
import JobletWire

/// The first 16 bytes of an HMAC-SHA256: nobody without the node's key makes two that are alike, or finds out what it is of.
package struct KeyedHash: Hashable, Sendable {
  package var high: UInt64
  package var low: UInt64

  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }
}

/// A request to run a job as its `Idempotency-Key` is remembered: neither the key's own text nor anything of the request can
/// be read back from it.
package struct KeyedRequest: Hashable, Sendable {
  /// Of the caller's name.
  package var caller: UInt64
  /// Of the caller's name and key.
  package var key: KeyedHash
  /// Of the whole request, secrets included.
  package var request: KeyedHash

  package init(caller: UInt64, key: KeyedHash, request: KeyedHash) {
    self.caller = caller
    self.key = key
    self.request = request
  }
}

/// A moment since the host's boot, in nanoseconds (`CLOCK_BOOTTIME`, clock_gettime(2)): nobody sets it, it goes on while the
/// host sleeps and across restarts of exec. Compared with those of the same boot only.
package struct BootTime: Hashable, Comparable, Sendable {
  package var nanoseconds: Int64

  package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  package static func now() -> BootTime {
    var time = timespec()
    clock_gettime(CLOCK_BOOTTIME, &time)
    return BootTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }

  package static func < (a: BootTime, b: BootTime) -> Bool { a.nanoseconds < b.nanoseconds }

  /// How long before `now` this was. One that lies ahead is of a file that outlived its boot, or of no clock at all: as long ago
  /// as can be.
  package func age(at now: BootTime) -> Duration {
    let (age, overflow) = now.nanoseconds.subtractingReportingOverflow(nanoseconds)
    return overflow || age < 0 ? .nanoseconds(Int64.max) : .nanoseconds(age)
  }
}

/// A job that was started by a request with an `Idempotency-Key`.
package struct KeyedRun: Hashable, Sendable {
  package var asked: KeyedRequest
  package var job: JobID
  /// When the job was admitted.
  package var at: BootTime

  package init(_ asked: KeyedRequest, job: JobID, at: BootTime) {
    self.asked = asked
    self.job = job
    self.at = at
  }

  /// Its size in a file: eight words of 64 bits, big-endian.
  package static let byteCount = 64

  package var encoded: [UInt8] {
    let words = [
      asked.caller, asked.key.high, asked.key.low, asked.request.high, asked.request.low, job.high, job.low,
      UInt64(bitPattern: at.nanoseconds),
    ]
    return words.flatMap { word in withUnsafeBytes(of: word.bigEndian) { Array($0) } }
  }

  /// Nil unless these are as many bytes as one has, and name a job.
  package init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == KeyedRun.byteCount else { return nil }
    var words: [UInt64] = []
    for (index, byte) in bytes.enumerated() {
      if index % 8 == 0 { words.append(0) }
      words[words.count - 1] = words[words.count - 1] << 8 | UInt64(byte)
    }
    asked = KeyedRequest(
      caller: words[0], key: KeyedHash(high: words[1], low: words[2]),
      request: KeyedHash(high: words[3], low: words[4]))
    job = JobID(high: words[5], low: words[6])
    at = BootTime(nanoseconds: Int64(bitPattern: words[7]))
    guard job != .none else { return nil }
  }
}

/// Makes the hashes, with a random key that never leaves this node's memory (a tmpfs for root alone).
package struct RunHasher: Sendable {
  package static let keyLength = 32
  private let key: SymmetricKey

  package init(key bytes: [UInt8]) { key = SymmetricKey(data: bytes) }

  package static func randomKey() -> [UInt8] {
    SymmetricKey(size: .bits256).withUnsafeBytes { Array($0) }
  }

  /// - Throws: ``JobletModel/Problem`` for a key that is none.
  package func hashes(_ run: RunRequest, key text: String) throws -> KeyedRequest {
    guard RunRequest.keyLength.contains(text.utf8.count) else {
      throw Problem(
        .badRequest, "Idempotency-Key: must be 1 to \(RunRequest.keyLength.upperBound) bytes", field: "Idempotency-Key")
    }
    let encoder = JSONEncoder()
    // The order of a dictionary's keys is another in each process.
    encoder.outputFormatting = .sortedKeys
    let request = try encoder.encode(run.request)
    let name = Array(run.caller.name.utf8)
    return KeyedRequest(
      caller: hash("caller", [name]).high, key: hash("key", [name, Array(text.utf8)]),
      request: hash("request", [Array(request)]))
  }

  /// Each part behind its length, so that no two lists of parts read alike.
  private func hash(_ kind: String, _ parts: [[UInt8]]) -> KeyedHash {
    var code = HMAC<SHA256>(key: key)
    for part in [Array(kind.utf8)] + parts {
      withUnsafeBytes(of: UInt64(part.count).bigEndian) { code.update(data: $0) }
      code.update(data: part)
    }
    return code.finalize().withUnsafeBytes { bytes in
      KeyedHash(
        high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
        low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }
  }
}
