import FoundationEssentials
import JobletModel
import NIOCore

/// Reads JSON bodies and says in a client's words what is wrong with one.
enum JSONBody {
  /// The longest JSON body, in bytes.
  static let maxLength = 2 << 20

  /// - Throws: ``Problem``: `bad-request` for what is not JSON, `invalid-field` with the field's path for the rest.
  static func decode<T: Decodable>(_ type: T.Type, from buffer: ByteBuffer) throws(Problem) -> T {
    do {
      return try JSONDecoder().decode(type, from: Data(buffer.readableBytesView))
    } catch let error as ValidationError {
      throw Problem(error)
    } catch let error as DecodingError {
      throw problem(error, buffer)
    } catch {
      throw Problem(.badRequest, "the body is not JSON: \(error)")
    }
  }

  private static func problem(_ error: DecodingError, _ body: ByteBuffer) -> Problem {
    switch error {
    case .keyNotFound(let key, let context):
      let field = path(context.codingPath + [key])
      return Problem(.invalidField, "\(field): is missing", field: field)
    case .typeMismatch(let wanted, let context), .valueNotFound(let wanted, let context):
      let field = path(context.codingPath)
      if field.isEmpty { return Problem(.invalidField, "the body must be \(name(wanted))") }
      return Problem(.invalidField, "\(field): must be \(name(wanted))", field: field)
    case .dataCorrupted(let context):
      let field = path(context.codingPath)
      if !field.isEmpty { return Problem(.invalidField, "\(field): \(context.debugDescription)", field: field) }
      return unreadable(body)
    @unknown default:
      return Problem(.badRequest, "the body can't be read: \(error)")
    }
  }

  /// The decoder says of such a body only that it is not valid; a client is told where.
  private static func unreadable(_ body: ByteBuffer) -> Problem {
    switch JSONScanner.firstFinding(in: Array(body.readableBytesView)) {
    case .broken(let offset, let what): Problem(.badRequest, "the body is not JSON: at byte \(offset), \(what)")
    case .notWhole(let field, let number):
      Problem(.invalidField, "\(field): \(number) is not allowed; it must be a whole number of 64 bits", field: field)
    case nil: Problem(.badRequest, "the body is not JSON that can be read here")
    }
  }

  private static func path(_ keys: [any CodingKey]) -> String {
    keys.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }.joined(separator: ".")
  }

  private static func name(_ type: any Any.Type) -> String {
    switch type {
    case is String.Type: "a string"
    case is Int.Type, is Int64.Type, is UInt64.Type: "a whole number"
    case is Bool.Type: "true or false"
    case is [String: String].Type, is [String: Any].Type: "an object"
    case is [String].Type, is [Any].Type: "an array"
    default: "\(type)".hasPrefix("Dictionary") ? "an object" : "\(type)".hasPrefix("Array") ? "an array" : "an object"
    }
  }
}
