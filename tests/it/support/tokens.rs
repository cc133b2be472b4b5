//! An issuer's own side: key pairs, the set of keys it shows, tokens with any header and claims. Used by the unit tests of `filter::jwt` too.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use serde_json::{Value, json};

/// ring makes no RSA keys. Made for these tests; it opens nothing.
const RSA: &str = "\
    MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDfI7t5DwkGFep3DNVTg0F8xfILLwd78SrerxMsH2DvRYcBhkdUE6m9\
    hSAV54J1eIt2o5+fnsxFZBqru7bUC+gCuw/HBEpP468CJNNS90JWfc6znVn7u6luxeZ8Fwd7BogpTOp0VHL/lGOpEiz8B9c9v3+AEqTl\
    LsDpWZy2WI60WaZgtaIBNPk7UEhYucq0bSTmyNziEOIytcR0o6RU0vkaT9jL1wd7I29vnbZPrmtt8dhbIGSTjZeFqxN6WK2RFmQHuopt\
    ESl3fkxa2N+zYdYmv3OV7Tmg4hbD/0qMVDg0xVpeljjdruzwkinaK+cjURJAh5tgD0ezKu6LLiC2C/NNAgMBAAECggEAEPz58WoFIFr7\
    ykuGVEDadALn/hT7B2MhhemjVokfCqhq8mFEPfDvS9f+TNye0I24ZHRpmy/uUlwgMbHtZfBwHgEa3uaDN9jYQpwGILtlaAtU+NTCfIlZ\
    iW70sL7aGXIyXJ6X/PpO9QlZmw4gsaFxMCjLrrb8qdwo4LsrVLCiULWcJRskMgtpABJfUbU9+GKlrF1Shvvf+twBcjDxHXZTyDJIFD4p\
    sTZ1TahgAz1sQPl5fo/swMJAqTjVAdDM1C7CkhBkD05X1XFgzxYTVY9naOd0QEUIy1H6YM81IpYmU5fo/5XQYCLxLBYB/f6g8IW0L/vL\
    4lByrm5ABhVZYVvsYQKBgQD79G0f87qqeZKyvRJ/Pq8ULRBL3Nw8CX22y5+gF6vk/6Jlm5F7JBDwVDbnzgJxwWf/7C+qIrxTURjUo5B3\
    trKYYh0tdFYLBOUXotyiO38XZAbUCfsvBMxlbF9G3ZcYOwyKwxWSN08FT9teV9gDs7OAiSqCNNxN2tkF6OmF76sf8QKBgQDiuN76aTx6\
    wQ3wHFsX91Bq7IQO/aSNmSXFqlRs/RJ92Sd/OA7bg6021Yl00I+NFh46om6LWz4Ebl6rX3nOAdC1dyHBpygW5AdtfhcntPSTfg2BAc90\
    7UPpLQ+V/0b+R4srAy3x5S9GXbj4tgopngQY01pVoRZYsY96+Ns4aEOlHQKBgQDpe2zUu0w0Rk0HjebiO/iKvefoJVeB21nAV5opBUaq\
    A6s+dZevgZCg5amrzmC9gfkaVIknJOFYZEKaaqiqB4ghZmqbgL9rnrGd4bKMNI5l4q/hNw6qV8wCAReZ2Cb4sV/CB16qDM8RoRsspkLr\
    y0+AwZu+5bVyAGg07c3Z7GusQQKBgQCxBEjMWRgoe80HGQyipK08HphpH+63w8gzEe9C/UDP05m8AafQCnpWYtkkxKYgMRG/FA2dbsr4\
    KLhvs2blypMK7A4GJh3t6XJHMfigPu/qrLOccy5oC8xHJbCSm7LxXCizl5Lq19dWaFzAi1lZ7w8h1vsj+lb5PwFYsS5wVy/hnQKBgGRm\
    U7ue4RgjSU9Xz+ACw1J1rJbsYYudwscuoIcs3a99eiRFLJnhzyG1ty3mEyt49bRv345g+xpSnH0VgsrPXgZ1JS/XzAwOkyrP7Cg5eQA8\
    SBoJnr/jOCfK/EtBxWe2+sdkvjkqi0CLRDgNSEn1xlotH2AQqBY/2hYokjYYj+4z";

/// A key pair with a name.
pub struct Signer {
    kid: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A set of keys as an issuer shows it.
pub fn set(signers: &[&Signer]) -> Value {
    json!({ "keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>() })
}

impl Signer {
    pub fn rsa(kid: &'static str) -> Signer {
        let der = STANDARD.decode(RSA).expect("base64");
        Signer { kid, pair: Pair::Rsa(RsaKeyPair::from_pkcs8(&der).expect("a key")) }
    }

    pub fn p256(kid: &'static str) -> Signer {
        let (rng, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).expect("a key");
        Signer { kid, pair: Pair::P256(EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &rng).expect("a key")) }
    }

    pub fn p384(kid: &'static str) -> Signer {
        let (rng, algorithm) = (SystemRandom::new(), &ECDSA_P384_SHA384_FIXED_SIGNING);
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).expect("a key");
        Signer { kid, pair: Pair::P384(EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &rng).expect("a key")) }
    }

    pub fn ed25519(kid: &'static str) -> Signer {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Signer { kid, pair: Pair::Ed25519(Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key")) }
    }

    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// The public half.
    pub fn jwk(&self) -> Value {
        let point = |curve: &str, bytes: &[u8]| {
            let (x, y) = bytes[1..].split_at(bytes.len() / 2);
            json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y), "kid": self.kid, "use": "sig"})
        };
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": base64url(public.n), "e": base64url(public.e), "kid": self.kid, "use": "sig"})
            }
            Pair::P256(pair) => point("P-256", pair.public_key().as_ref()),
            Pair::P384(pair) => point("P-384", pair.public_key().as_ref()),
            Pair::Ed25519(pair) => {
                let x = base64url(pair.public_key());
                json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "use": "sig"})
            }
        }
    }

    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "kid": self.kid, "typ": "JWT"})
    }

    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// Any texts, signed as this pair signs, or as an RSA pair does under the `alg` of the header.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let alg =
            serde_json::from_str::<Value>(header).ok().and_then(|header| Some(header["alg"].as_str()?.to_owned()));
        let signature = self.signature(message.as_bytes(), alg.as_deref().unwrap_or_default());
        format!("{message}.{}", base64url(signature))
    }

    fn signature(&self, message: &[u8], alg: &str) -> Vec<u8> {
        let rng = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match alg {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &rng, message, &mut signature).expect("a signature");
                signature
            }
            Pair::P256(pair) | Pair::P384(pair) => pair.sign(&rng, message).expect("a signature").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}
