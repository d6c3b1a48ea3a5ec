import BenchmarkKit
import CSeccomp
import Sandbox

#if canImport(Glibc)
  import Glibc
#endif

/// The filter of the jobs, for the peers: bubblewrap and the bare sequence load the very same program, runc gets a profile that
/// allows what this one allows whatever the arguments are (its own compiler makes the program).
struct PayloadFilter {
  private let payload: [UInt8]
  /// The filter below it, which catches what is never legitimate.
  private let violations: [UInt8]

  init() throws {
    let filters = try SeccompFilters(profile: "default")
    payload = filters.payload.bytes
    violations = filters.violations.bytes
  }

  /// Writes both programs where a peer can read them; the second has the suffix `.violations`.
  func write(to path: String) throws {
    try PayloadFilter.write(payload, to: path)
    try PayloadFilter.write(violations, to: path + ".violations")
  }

  private static func write(_ bytes: [UInt8], to path: String) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw BenchmarkError("\(path): \(String(cString: strerror(errno)))") }
    defer { close(file) }
    guard Glibc.write(file, bytes, bytes.count) == bytes.count else { throw BenchmarkError("\(path): short write") }
  }

  /// The names of the calls that pass with all arguments 0.
  func allowedNames() throws -> [String] {
    try (UInt32(0)..<512).compactMap { number in
      guard try run(payload, number) == 0x7FFF_0000, try run(violations, number) == 0x7FFF_0000,
        let name = seccomp_syscall_resolve_num_arch(seccomp_arch_native(), CInt(number))
      else { return nil }
      defer { free(name) }
      return String(cString: name)
    }
  }

  /// What the program answers to a call: classic BPF, as far as libseccomp writes it (seccomp(2), `struct seccomp_data`).
  private func run(_ bytes: [UInt8], _ number: UInt32) throws -> UInt32 {
    var accumulator: UInt32 = 0
    var at = 0
    while at * 8 + 8 <= bytes.count {
      let (code, whenTrue, whenFalse, k) = bytes.withUnsafeBytes {
        (
          $0.loadUnaligned(fromByteOffset: at * 8, as: UInt16.self), Int($0[at * 8 + 2]), Int($0[at * 8 + 3]),
          $0.loadUnaligned(fromByteOffset: at * 8 + 4, as: UInt32.self)
        )
      }
      at += 1
      switch code {
      // The call's number, its architecture, then the arguments.
      case 0x20: accumulator = k == 0 ? number : k == 4 ? seccomp_arch_native() : 0
      case 0x54: accumulator &= k
      case 0x05: at += Int(k)
      case 0x15: at += accumulator == k ? whenTrue : whenFalse
      case 0x25: at += accumulator > k ? whenTrue : whenFalse
      case 0x35: at += accumulator >= k ? whenTrue : whenFalse
      case 0x45: at += accumulator & k != 0 ? whenTrue : whenFalse
      case 0x06: return k
      default: throw BenchmarkError("the filter has an instruction this benchmark does not know: \(code)")
      }
    }
    throw BenchmarkError("the filter ends without an answer")
  }
}
