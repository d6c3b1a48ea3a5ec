import CIsal
import JobletModel
import LogStore

/// The header of one member of a stored stream: `/opt/joblet/logs/<job>/stdout.log.gz` and `stderr.log.gz`,
/// `/opt/joblet/metrics/<job>/metrics.jsonl.gz`.
///
/// Such a file is a sequence of gzip members (RFC 1952), so `zcat file | jq` reads it. Each member holds whole JSON lines of
/// one stream, at most a few hundred KiB of them, and says in its extra field what it holds and where its neighbours are:
/// a reader walks headers and inflates only the members it needs. Nothing in a file is ever changed once it is whole.
///
/// Every member begins with these 96 bytes; numbers are little-endian.
///
/// | offset | size | value | field |
/// | --- | --- | --- | --- |
/// | 0 | 2 | `1F 8B` | gzip's ID1, ID2 |
/// | 2 | 1 | 8 | CM: deflate |
/// | 3 | 1 | 4 | FLG: FEXTRA alone |
/// | 4 | 4 | 0 | MTIME: none (times stand below) |
/// | 8 | 1 | 4 | XFL: fastest compression |
/// | 9 | 1 | 3 | OS: Unix |
/// | 10 | 2 | 84 | XLEN: one subfield of 4 + 80 bytes |
/// | 12 | 2 | `4A 4C` ("JL") | SI1, SI2: the subfield is ours |
/// | 14 | 2 | 80 | LEN |
/// | 16 | 1 | 1 | version of this layout |
/// | 17 | 1 | 1, 2 or 3 | stream: stdout, stderr, metrics |
/// | 18 | 2 | | ``MemberFlags`` |
/// | 20 | 4 | | CRC-32 (as gzip's) of these 96 bytes with this field zero |
/// | 24 | 8 | | length of the whole member in bytes, header and trailer included |
/// | 32 | 8 | | length of the member before it; 0 in the first |
/// | 40 | 8 | | skip pointer: in every 64th member (index 64, 128, …) how many bytes before this one the member 64 places back begins; 0 in others |
/// | 48 | 8 | | index of the member in the file, from 0 |
/// | 56 | 4 | | records (lines) in it |
/// | 60 | 4 | | bytes of JSON in it |
/// | 64 | 8 | | first `seq` |
/// | 72 | 8 | | last `seq` |
/// | 80 | 8 | | earliest timestamp, Unix nanoseconds |
/// | 88 | 8 | | latest timestamp |
///
/// Then follow the deflate data and gzip's trailer: CRC-32 and length of the JSON, four bytes each. A member whose header,
/// length or CRC does not fit is no member: at the end of a file it is torn and cut off at start-up, elsewhere it is
/// damaged and answered with a gap. In the JSON every line begins `{"seq":N,"ts":"<30 characters>"` and ends in `}` and a
/// newline; a log's lines are as ``JobletModel/LogLineEncoder`` writes them, metrics as ``JobletModel/MetricSample/line``.
///
/// To find a range a reader takes the file's last member and goes back by skip pointers and lengths. Numbers rise through
/// a file, so they can be searched for; times can where the last member has ``MemberFlags/inOrderOfTime``.
///
/// Test vectors (what deflate makes of the same JSON may differ from one compressor to the next): the line
/// `{"seq":1,"ts":"1970-01-01T00:00:00.000000001Z","stream":"stdout","line":"hi"}` with its newline as a file's first
/// member,
///
/// ```
/// 1F 8B 08 04 00 00 00 00 04 03 54 00 4A 4C 50 00 01 01 03 00 73 44 19 DF AA 00 00 00 00 00 00 00
/// 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 4E 00 00 00
/// 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
/// AB 56 2A 4E 2D 54 B2 32 D4 51 2A 29 56 B2 52 32 B4 34 37 D0 35 30 04 A2 10 03 03 2B 30 D2 33 80
/// 02 C3 28 25 1D A5 E2 92 A2 D4 C4 5C A0 CA E2 92 94 FC D2 12 A0 48 4E 66 5E 2A 90 9F 91 A9 54 CB
/// 05 00 92 EE 78 A4 4E 00 00 00
/// ```
///
/// and the metrics line `{"seq":1,"ts":"1970-01-01T00:00:00.000000001Z","pids":1}`:
///
/// ```
/// 1F 8B 08 04 00 00 00 00 04 03 54 00 4A 4C 50 00 01 03 03 00 9C 11 EA 2F 97 00 00 00 00 00 00 00
/// 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 39 00 00 00
/// 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
/// AB 56 2A 4E 2D 54 B2 32 D4 51 2A 29 56 B2 52 32 B4 34 37 D0 35 30 04 A2 10 03 03 2B 30 D2 33 80
/// 02 C3 28 25 1D A5 82 CC 14 A0 3A C3 5A 2E 00 E9 E5 8F 16 39 00 00 00
/// ```
public struct MemberHeader: Hashable, Sendable {
  public var stream: StoredStream
  public var memberLength: UInt64
  public var previousLength: UInt64
  public var skip: UInt64
  public var index: UInt64
  public var count: UInt32
  public var jsonLength: UInt32
  public var firstSeq: UInt64
  public var lastSeq: UInt64
  public var earliest: Timestamp
  public var latest: Timestamp
  public var flags: MemberFlags

  public static let byteCount = 96
  /// CRC-32 and length of the JSON.
  public static let trailerLength = 8
  /// Every so many members one has a skip pointer.
  public static let skipInterval: UInt64 = 64
  /// The bytes every header begins with.
  public static let signature: [UInt8] = [0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 4, 3, 84, 0, 0x4A, 0x4C, 80, 0, 1]

  public init(
    stream: StoredStream, memberLength: UInt64, previousLength: UInt64, skip: UInt64, index: UInt64, count: UInt32,
    jsonLength: UInt32, firstSeq: UInt64, lastSeq: UInt64, earliest: Timestamp, latest: Timestamp,
    flags: MemberFlags = []
  ) {
    self.stream = stream
    self.memberLength = memberLength
    self.previousLength = previousLength
    self.skip = skip
    self.index = index
    self.count = count
    self.jsonLength = jsonLength
    self.firstSeq = firstSeq
    self.lastSeq = lastSeq
    self.earliest = earliest
    self.latest = latest
    self.flags = flags
  }

  /// Reads a header: a pure function over bytes. Nil for anything that is not whole and consistent.
  public init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= MemberHeader.byteCount, bytes.starts(with: MemberHeader.signature),
      let stream = StoredStream(rawValue: bytes[17])
    else { return nil }
    func load<T: FixedWidthInteger>(_ offset: Int, as: T.Type) -> T {
      T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }
    guard load(20, as: UInt32.self) == MemberHeader.checksum(bytes) else { return nil }
    self.init(
      stream: stream, memberLength: load(24, as: UInt64.self), previousLength: load(32, as: UInt64.self),
      skip: load(40, as: UInt64.self), index: load(48, as: UInt64.self), count: load(56, as: UInt32.self),
      jsonLength: load(60, as: UInt32.self), firstSeq: load(64, as: UInt64.self), lastSeq: load(72, as: UInt64.self),
      earliest: Timestamp(nanoseconds: load(80, as: Int64.self)),
      latest: Timestamp(nanoseconds: load(88, as: Int64.self)), flags: MemberFlags(rawValue: load(18, as: UInt16.self)))
    let overhead = UInt64(MemberHeader.byteCount + MemberHeader.trailerLength)
    // Bounds that keep every sum over headers in range, whatever a forged one says.
    guard memberLength > overhead, memberLength < 1 << 40, index < 1 << 40, firstSeq >= 1, lastSeq >= firstSeq,
      lastSeq < .max,
      count >= 1
    else { return nil }
  }

  /// Writes the header's 96 bytes.
  public func encode(into out: UnsafeMutableRawBufferPointer) {
    precondition(out.count >= MemberHeader.byteCount)
    func store(_ value: some FixedWidthInteger, _ offset: Int) {
      out.storeBytes(of: value.littleEndian, toByteOffset: offset, as: type(of: value))
    }
    out.copyBytes(from: MemberHeader.signature)
    store(stream.rawValue, 17)
    store(flags.rawValue, 18)
    store(memberLength, 24)
    store(previousLength, 32)
    store(skip, 40)
    store(index, 48)
    store(count, 56)
    store(jsonLength, 60)
    store(firstSeq, 64)
    store(lastSeq, 72)
    store(earliest.nanoseconds, 80)
    store(latest.nanoseconds, 88)
    store(MemberHeader.checksum(UnsafeRawBufferPointer(out)), 20)
  }

  /// The CRC of a header's bytes without its own field.
  private static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    let zero: [UInt8] = [0, 0, 0, 0]
    let head = CRC32.update(0, UnsafeRawBufferPointer(rebasing: bytes[..<20]))
    let middle = zero.withUnsafeBytes { CRC32.update(head, $0) }
    return CRC32.update(middle, UnsafeRawBufferPointer(rebasing: bytes[24..<MemberHeader.byteCount]))
  }
}

/// What a member says of its lines, so that a reader can spare itself work. Bits that are not set promise nothing; bits that
/// are not known mean nothing.
public struct MemberFlags: OptionSet, Hashable, Sendable {
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }
  /// From the file's first member to this one, none begins at an earlier time than the one before it ended: times can be
  /// searched for.
  public static let inOrderOfTime = MemberFlags(rawValue: 1)
  /// No line is base64: text can be searched for in the JSON as it is.
  public static let isPlain = MemberFlags(rawValue: 2)
}

/// gzip's CRC-32 (RFC 1952, section 8), by ISA-L.
public enum CRC32 {
  /// Goes on from `crc`; 0 to begin.
  public static func update(_ crc: UInt32, _ bytes: UnsafeRawBufferPointer) -> UInt32 {
    guard let base = bytes.baseAddress else { return crc }
    return crc32_gzip_refl(crc, base.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count))
  }
}
