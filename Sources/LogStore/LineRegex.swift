import CPCRE2
import JobletModel

/// A regular expression that is looked for in lines, in PCRE2's syntax (pcre2pattern(3)).
///
/// A line is matched as UTF-8: `.` is a character, `é` in a pattern is `é` in a line. Bytes of a line that are not UTF-8
/// are no characters: nothing matches them, and no match reaches across them; what stands beside them is matched as
/// ever. `\d`, `\w` and `\s` mean ASCII, unless the pattern begins with `(*UCP)`. `\C` is refused.
///
/// A pattern comes from outside, so one line may cost only so many steps and so much memory; a match that needs more is a
/// ``JobletModel/Problem``, never "no match". Used by one caller at a time.
final class LineRegex {
  /// The longest pattern, in bytes of UTF-8.
  static let maxLength = 4096
  /// Steps of PCRE2's for one line: some tens of milliseconds at the most.
  private static let stepLimit: UInt32 = 5_000_000
  /// KiB of memory for one line.
  private static let heapLimit: UInt32 = 32 << 10
  private static let maxNesting: UInt32 = 100

  private let code: OpaquePointer
  private let data: OpaquePointer
  private let context: OpaquePointer
  private let stack: OpaquePointer?

  /// - Throws: a problem of the field `regex` with PCRE2's message and the place.
  init(_ pattern: String) throws(Problem) {
    let bytes = Array(pattern.utf8)
    guard bytes.count <= LineRegex.maxLength else {
      throw LineRegex.problem("regex has \(bytes.count) bytes; allowed: up to \(LineRegex.maxLength)")
    }
    code = try LineRegex.compile(bytes)
    let data = pcre2_match_data_create_8(1, nil)
    let context = pcre2_match_context_create_8(nil)
    guard let data, let context else {
      pcre2_match_data_free_8(data)
      pcre2_match_context_free_8(context)
      pcre2_code_free_8(code)
      throw Problem(.internalError, "no memory for a regular expression")
    }
    self.data = data
    self.context = context
    pcre2_set_match_limit_8(context, LineRegex.stepLimit)
    pcre2_set_heap_limit_8(context, LineRegex.heapLimit)
    // Where memory can't be made executable (MemoryDenyWriteExecute=) the interpreter does the work: same answers, slower.
    if pcre2_jit_compile_8(code, PCRE2_JIT_COMPLETE) == 0 {
      stack = pcre2_jit_stack_create_8(32 << 10, 512 << 10, nil)
      if let stack { pcre2_jit_stack_assign_8(context, nil, UnsafeMutableRawPointer(stack)) }
    } else {
      stack = nil
    }
  }

  deinit {
    pcre2_jit_stack_free_8(stack)
    pcre2_match_context_free_8(context)
    pcre2_match_data_free_8(data)
    pcre2_code_free_8(code)
  }

  private static func compile(_ pattern: [UInt8]) throws(Problem) -> OpaquePointer {
    guard let context = pcre2_compile_context_create_8(nil) else {
      throw Problem(.internalError, "no memory for a regular expression")
    }
    defer { pcre2_compile_context_free_8(context) }
    pcre2_set_parens_nest_limit_8(context, maxNesting)
    var error: CInt = 0
    var offset = 0
    let options = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C
    let code = pattern.withUnsafeBufferPointer {
      // An empty array has no address, and PCRE2 wants one.
      var none: UInt8 = 0
      if let base = $0.baseAddress { return pcre2_compile_8(base, $0.count, options, &error, &offset, context) }
      return pcre2_compile_8(&none, 0, options, &error, &offset, context)
    }
    guard let code else { throw problem("regex: \(message(error)) (at offset \(offset))") }
    return code
  }

  private static func problem(_ detail: String) -> Problem { Problem(.invalidField, detail, field: "regex") }

  private static func message(_ error: CInt) -> String {
    var text = [UInt8](repeating: 0, count: 256)
    let length = pcre2_get_error_message_8(error, &text, text.count)
    guard length >= 0 else { return "error \(error)" }
    return String(decoding: text.prefix(Int(length)), as: UTF8.self)
  }

  /// True if the expression matches somewhere in a line's own bytes.
  /// - Throws: a problem if that can't be told within the limits.
  func matches(_ line: UnsafeRawBufferPointer, seq: UInt64) throws(Problem) -> Bool {
    var result = match(line, options: 0)
    // The compiled code works on a small stack; the interpreter may use more.
    if result == PCRE2_ERROR_JIT_STACKLIMIT { result = match(line, options: PCRE2_NO_JIT) }
    if result >= 0 { return true }
    if result == PCRE2_ERROR_NOMATCH { return false }
    throw LineRegex.problem(
      "regex: \(LineRegex.message(result)) on line \(seq) of \(line.count) bytes; write it so that less has to be tried"
    )
  }

  private func match(_ line: UnsafeRawBufferPointer, options: UInt32) -> CInt {
    guard let base = line.baseAddress else {
      var none: UInt8 = 0
      return pcre2_match_8(code, &none, 0, 0, options, data, context)
    }
    return pcre2_match_8(
      code, base.assumingMemoryBound(to: UInt8.self), line.count, 0, options, data, context)
  }
}
