#if canImport(Glibc)
  import Glibc
#endif

// What the fuzz programs share. Each is one file in a folder of its own that has `seeds()` and `LLVMFuzzerTestOneInput`
// (https://llvm.org/docs/LibFuzzer.html); contrib/fuzz builds and runs them.

/// Before the first run: with JOBLET_FUZZ_SEEDS the program's own seeds are written to that folder.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(_ count: UnsafeMutableRawPointer?, _ arguments: UnsafeMutableRawPointer?) -> CInt {
  guard let folder = getenv("JOBLET_FUZZ_SEEDS").map({ String(cString: $0) }) else { return 0 }
  for (number, seed) in seeds().enumerated() {
    let file = open("\(folder)/seed-\(number)", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    require(file >= 0 && write(file, seed, seed.count) == seed.count, "can't write seed \(number) to \(folder)")
    close(file)
  }
  return 0
}

/// A broken invariant is a crash with a sentence: libFuzzer then keeps the input.
func require(_ condition: Bool, _ message: @autoclosure () -> String) {
  if !condition { fatalError(message()) }
}

/// The fuzzer's bytes read as decisions; zeros when they are used up.
struct Choices {
  private let bytes: UnsafeRawBufferPointer
  private var position = 0

  init(_ data: UnsafePointer<UInt8>?, _ size: Int) { bytes = UnsafeRawBufferPointer(start: data, count: size) }

  var isEmpty: Bool { position >= bytes.count }
  /// What is left.
  var rest: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[min(position, bytes.count)...]) }

  mutating func byte() -> UInt8 {
    defer { position += 1 }
    return position < bytes.count ? bytes[position] : 0
  }

  mutating func number() -> UInt64 { (0..<8).reduce(UInt64(0)) { value, _ in value << 8 | UInt64(byte()) } }

  /// 0 to `bound` - 1.
  mutating func below(_ bound: Int) -> Int {
    bound <= 1 ? 0 : (Int(byte()) << 16 | Int(byte()) << 8 | Int(byte())) % bound
  }
}

/// The bytes of a string and nothing behind them.
func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
