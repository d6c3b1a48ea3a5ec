import CInitABI
import JobletModel
import Sandbox
import Synchronization

/// Where things stand in the ring's header page: the layout of `joblet_ring.h`, which a test holds equal to these.
package enum RingLayout {
  package static let magic: UInt64 = 0x3147_4E52_544C_424A
  package static let headerSize = 4096
  package static let entryHeaderSize = 32
  package static let maxPayload = 65_536
  /// The bytes of a job's ring are a power of two in this range.
  package static let dataSizeRange = 1 << 17...1 << 30

  package enum Field {
    package static let magic = 0
    package static let dataSize = 8
    package static let maxRecords = 16
    package static let reserved = 64
    package static let head = 72
    package static let nextSeq = 80
    package static let initWaiting = 88
    package static let phase = 128
    package static let endKind = 132
    package static let endCode = 136
    package static let timedOut = 140
    package static let startedAt = 144
    package static let endedAt = 152
    package static let setupStep = 160
    package static let setupErrno = 164
    package static let violation = 172
    package static let violationCall = 176
    package static let violationArchitecture = 180
    package static let stopReached = 188
    package static let acked = 192
    package static let ackedSeq = 200
    package static let execWaiting = 208
    package static let go = 212
    package static let stopIntent = 216
    /// Eight times, by `enum joblet_trace`.
    package static let trace = 256
    /// That of `JOBLET_TRACE_EXEC`.
    package static let traceExec = trace + 8 * 6
  }

  /// The space an entry takes: header, payload, padding to eight bytes.
  package static func entrySize(payload length: Int) -> Int { (entryHeaderSize + length + 7) & ~7 }
}

/// How far the job has come, as joblet-init says it.
package enum RingPhase: UInt32, Sendable, Comparable {
  case new = 0
  case ready = 1
  case running = 2
  case ended = 3

  package static func < (a: RingPhase, b: RingPhase) -> Bool { a.rawValue < b.rawValue }
}

/// Why a ring can't be believed. Its job ends as failed with this as the message; no other job is touched.
package enum RingFault: Error, Hashable, Sendable, CustomStringConvertible {
  case badHeader(String)
  case unknownPhase(UInt32)
  case phaseWentBack(from: RingPhase, to: RingPhase)
  case headBeyondSpace(head: UInt64, read: UInt64)
  case headBeyondReserved(head: UInt64, reserved: UInt64)
  case misaligned(offset: UInt64)
  case badLength(length: UInt32, offset: UInt64)
  case beyondHead(offset: UInt64, head: UInt64)
  case badSequence(found: UInt64, expected: UInt64)
  case badCount(count: UInt32, newlines: Int)
  case badStream(UInt8)
  case badFlags(UInt8)
  case badEnd(kind: UInt32, code: Int32)

  package var description: String {
    switch self {
    case .badHeader(let why): "its header is wrong: \(why)"
    case .unknownPhase(let value): "it claims phase \(value), which does not exist"
    case .phaseWentBack(let from, let to): "its phase went back from \(from) to \(to)"
    case .headBeyondSpace(let head, let read): "its head \(head) is more than its size ahead of what was read (\(read))"
    case .headBeyondReserved(let head, let reserved): "its head \(head) is ahead of what it reserved (\(reserved))"
    case .misaligned(let offset): "an entry at \(offset) is not aligned to 8 bytes"
    case .badLength(let length, let offset): "an entry at \(offset) claims \(length) bytes; 1 to 65536 are possible"
    case .beyondHead(let offset, let head): "an entry at \(offset) reaches beyond the head \(head)"
    case .badSequence(let found, let expected): "an entry starts at record \(found) where \(expected) was due"
    case .badCount(let count, let newlines): "an entry claims \(count) records and holds \(newlines) newlines"
    case .badStream(let stream): "an entry names stream \(stream); 1 and 2 exist"
    case .badFlags(let flags): "an entry has the unknown flags \(flags)"
    case .badEnd(let kind, let code): "it claims an end of kind \(kind) with code \(code), which does not exist"
    }
  }
}

/// How a job ended, as joblet-init saw it.
package enum InitEnd: Hashable, Sendable {
  case exited(Int)
  case signaled(Int)
  /// Never ran. `step` indexes the plan (or names a late step), `error` is an errno.
  case setup(step: UInt32, error: Int32)
}

/// joblet-init's last word: valid once the phase is ``RingPhase/ended``.
package struct EndReport: Hashable, Sendable {
  package var end: InitEnd
  package var timedOut: Bool
  /// A signal was passed on to the payload before it ended.
  package var stopReached: Bool
  package var startedAt: Timestamp?
  package var endedAt: Timestamp?
  /// The call that no job may make, if a process made one and the job was ended for it.
  package var violation: SyscallViolation?

  package init(
    end: InitEnd, timedOut: Bool, stopReached: Bool = false, startedAt: Timestamp?, endedAt: Timestamp?,
    violation: SyscallViolation? = nil
  ) {
    self.violation = violation
    self.end = end
    self.timedOut = timedOut
    self.stopReached = stopReached
    self.startedAt = startedAt
    self.endedAt = endedAt
  }
}
