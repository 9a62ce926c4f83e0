/** Everything about certificates that the wings use. */
export {
  buildOcspResponderCertificate,
  buildRootCertificate,
  buildSubordinateCertificate,
  buildSubordinateRequest,
  type RootSpec,
} from "./ca-certificates.ts";
export { caChainWarnings, checkCaChain, endOfChain, excludedEku } from "./ca-chain.ts";
export {
  assembleCertificate,
  buildTbsCertificate,
  compileIssuerTemplate,
  type IssuerTemplate,
  type Leaf,
  leafKeyUsage,
} from "./issue.ts";
export { type Certificate, parseCertificate, verifyIssued } from "./parse-certificate.ts";
export { hasTag, randomSerial, SerialFilter, taggedSerial } from "./serials.ts";
