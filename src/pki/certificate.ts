/** The certificate functions that the wings use. */
export {
  buildOcspResponderTbs,
  buildRootTbs,
  buildSubordinateRequestInfo,
  buildSubordinateTbs,
  ocspResponderNames,
} from "./ca-certificates.ts";
export { boundsOfSubordinate, caChainWarnings, checkCaChain, endOfChain, excludedEku } from "./ca-chain.ts";
export { LEAF_EKUS } from "./extensions.ts";
export {
  assembleCertificate,
  buildTbsCertificate,
  compileIssuerTemplate,
  type IssuerTemplate,
  type Leaf,
  leafKeyUsage,
  signTbs,
} from "./issue.ts";
export { type Certificate, parseCertificate, verifyIssued } from "./parse-certificate.ts";
export { hasTag, randomSerial, SerialFilter, taggedSerial } from "./serials.ts";
