package graphpipe

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goldenSample is the description beside each captured message.
type goldenSample struct {
	Kind    string
	Content struct {
		ReqType       int            `json:"req_type"`
		Config        string         `json:"config"`
		InputNames    []string       `json:"input_names"`
		OutputNames   []string       `json:"output_names"`
		InputTensors  []goldenTensor `json:"input_tensors"`
		OutputTensors []goldenTensor `json:"output_tensors"`
		Errors        []any          `json:"errors"`
		Name          string
		Version       string
		Server        string
		Description   string
		Inputs        []goldenIO
		Outputs       []goldenIO
	}
}

type goldenTensor struct {
	TypeCode int      `json:"type_code"`
	Shape    []int64  `json:"shape"`
	DataHex  string   `json:"data_hex"`
	Base64   []string `json:"strings_base64"`
}

type goldenIO struct {
	Name        string
	Description string
	Shape       []int64
	TypeCode    int `json:"type_code"`
}

// goldenFolder is where messages captured from the original programs lie. They are not part of the repository.
func goldenFolder(t *testing.T) string {
	folder := os.Getenv("GRAPHPIPE_GOLDEN")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "golden")
	}
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("no captured messages: %v (GRAPHPIPE_GOLDEN names another folder)", err)
	}
	return folder
}

func TestEveryMessageOfTheOriginalProgramsIsRead(t *testing.T) {
	folder := goldenFolder(t)
	descriptions, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(descriptions) == 0 {
		t.Fatalf("no descriptions in %s: %v", folder, err)
	}
	for _, description := range descriptions {
		t.Run(strings.TrimSuffix(filepath.Base(description), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(description)
			if err != nil {
				t.Fatal(err)
			}
			message, err := os.ReadFile(strings.TrimSuffix(description, ".json") + ".bin")
			if err != nil {
				t.Fatal(err)
			}
			var sample goldenSample
			if err := json.Unmarshal(text, &sample); err != nil {
				t.Fatal(err)
			}
			compareGolden(t, &sample, message)
		})
	}
}

func compareGolden(t *testing.T, sample *goldenSample, message []byte) {
	want := &sample.Content
	switch sample.Kind {
	case "request":
		req, err := DecodeRequest(message)
		if err != nil {
			t.Fatal(err)
		}
		if (want.ReqType == reqMetadata) != (req.Infer == nil) {
			t.Fatalf("request of kind %d was read as %+v", want.ReqType, req)
		}
		if req.Infer == nil {
			return
		}
		if req.Infer.Config != want.Config || !slices.Equal(req.Infer.InputNames, want.InputNames) ||
			!slices.Equal(req.Infer.OutputNames, want.OutputNames) {
			t.Errorf("read %+v, want %+v", req.Infer, want)
		}
		compareGoldenTensors(t, req.Infer.Inputs, want.InputTensors)
	case "infer_response":
		resp, err := DecodeInferResponse(message)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Errors) != len(want.Errors) {
			t.Errorf("read the errors %v, want %v", resp.Errors, want.Errors)
		}
		compareGoldenTensors(t, resp.Outputs, want.OutputTensors)
	case "metadata_response":
		meta, err := DecodeMetadata(message)
		if err != nil {
			t.Fatal(err)
		}
		if meta.Name != want.Name || meta.Version != want.Version || meta.Server != want.Server || meta.Description != want.Description {
			t.Errorf("read %+v, want %+v", meta, want)
		}
		compareGoldenIOs(t, meta.Inputs, want.Inputs)
		compareGoldenIOs(t, meta.Outputs, want.Outputs)
	case "json_text":
		compareMetadataKeys(t, message)
	default:
		t.Fatalf("unknown kind %q", sample.Kind)
	}
}

func compareGoldenTensors(t *testing.T, got []Tensor, want []goldenTensor) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("read %d tensors, want %d", len(got), len(want))
	}
	for i := range got {
		data, err := hex.DecodeString(want[i].DataHex)
		if err != nil {
			t.Fatal(err)
		}
		if int(got[i].Type) != want[i].TypeCode || !slices.Equal(got[i].Shape, want[i].Shape) || !bytes.Equal(got[i].Data, data) {
			t.Errorf("tensor %d: read %+v, want %+v", i, got[i], want[i])
		}
		var encoded []string
		for _, s := range got[i].Strings {
			encoded = append(encoded, base64.StdEncoding.EncodeToString(s))
		}
		if !slices.Equal(encoded, want[i].Base64) {
			t.Errorf("tensor %d: read the strings %q, want %q", i, encoded, want[i].Base64)
		}
	}
}

func compareGoldenIOs(t *testing.T, got []TensorSpec, want []goldenIO) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("read %d inputs or outputs, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Name != want[i].Name || got[i].Description != want[i].Description ||
			int(got[i].Type) != want[i].TypeCode || !slices.Equal(got[i].Shape, want[i].Shape) {
			t.Errorf("read %+v, want %+v", got[i], want[i])
		}
	}
}

// compareMetadataKeys serves what the original's GET answered and expects the same text.
func compareMetadataKeys(t *testing.T, want []byte) {
	var meta Metadata
	if err := json.Unmarshal(want, &meta); err != nil {
		t.Fatal(err)
	}
	h := &handler{model: Function(meta, nil)}
	got, refused := h.metadataJSON()
	if refused != nil {
		t.Fatal(refused)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("GET answers\n%s\nwant\n%s", got, want)
	}
}
